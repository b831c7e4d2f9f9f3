"""The connection pool: one request per connection, kept-alive connections, and an idle limit."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from service.providers import PooledTransport, connection_pool

URL = "http://upstream.test/"
TIMEOUT = 10.0


class Body(httpx.AsyncByteStream):
    """A short response body."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{}"


class FakeConnection(httpx.AsyncBaseTransport):
    """One connection, which fails if two requests use it at once."""

    def __init__(self, network: "FakeNetwork") -> None:
        self.network, self.busy, self.closed = network, False, False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Respond when the network allows it."""
        assert not self.busy
        assert not self.closed
        self.busy = True
        try:
            self.network.used.append(self)
            self.network.begun.set()
            await self.network.go.wait()
            if self.network.error:
                raise self.network.error
        finally:
            self.busy = False
        return httpx.Response(200, stream=Body(), request=request)

    async def aclose(self) -> None:
        """Close."""
        self.closed = True


class FakeNetwork:
    """Opens fake connections, and controls when they respond."""

    def __init__(self) -> None:
        self.opened: list[FakeConnection] = []
        self.used: list[FakeConnection] = []
        self.error: Exception | None = None
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    def open(self) -> FakeConnection:
        """Open a connection."""
        self.opened.append(FakeConnection(self))
        return self.opened[-1]

    def client(self) -> httpx.AsyncClient:
        """Return a client that uses connections of this network."""
        return httpx.AsyncClient(transport=PooledTransport(self.open))


async def test_consecutive_requests_share_a_connection() -> None:
    """A released connection is used again."""
    network = FakeNetwork()
    async with network.client() as client:
        for _ in range(3):
            assert (await client.get(URL)).json() == {}
    assert len(network.opened) == 1


async def test_open_response_reserves_its_connection() -> None:
    """While a response is open, the next request uses another connection; afterwards it uses the released one."""
    network = FakeNetwork()
    async with network.client() as client:
        async with client.stream("GET", URL):
            await client.get(URL)
        await client.get(URL)
    assert network.used == [network.opened[0], network.opened[1], network.opened[0]]


async def test_response_closed_twice_releases_its_connection_once() -> None:
    """Simultaneous requests never share a connection, however often an earlier response is closed."""
    network = FakeNetwork()
    async with network.client() as client:
        request = client.build_request("GET", URL)
        answer = await client.send(request, stream=True)
        for _ in range(2):
            await answer.stream.aclose()  # type: ignore[union-attr] # an asynchronous client's is asynchronous
        network.go.clear()
        two = [asyncio.create_task(client.get(URL)) for _ in range(2)]
        await asyncio.sleep(0)
        network.go.set()
        await asyncio.gather(*two)
    assert len(network.opened) == 2


async def test_failed_connection_is_released() -> None:
    """An error releases the connection; its own httpx pool opens it again."""
    network = FakeNetwork()
    async with network.client() as client:
        network.error = httpx.ReadError("cut")
        with pytest.raises(httpx.ReadError):
            await client.get(URL)
        network.error = None
        await client.get(URL)
    assert len(network.opened) == 1


async def test_cancelled_request_releases_its_connection() -> None:
    """A cancelled request leaves no connection reserved."""
    network = FakeNetwork()
    async with network.client() as client:
        network.go.clear()
        cancelled = asyncio.create_task(client.get(URL))
        await network.begun.wait()
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        network.go.set()
        await client.get(URL)
    assert len(network.opened) == 1


async def test_connection_whose_response_fails_to_close_is_discarded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection that is cancelled while it closes a response may block: the next request opens another one."""

    async def fail_to_close(_body: Body) -> None:
        raise asyncio.CancelledError

    network = FakeNetwork()
    async with network.client() as client:
        monkeypatch.setattr(Body, "aclose", fail_to_close)
        with pytest.raises(asyncio.CancelledError):
            await client.get(URL)
        monkeypatch.undo()
        await client.get(URL)
        assert [connection.closed for connection in network.opened] == [True, False]


async def test_expired_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request closes connections that were idle for too long, and uses none of them."""
    network = FakeNetwork()
    async with network.client() as client:
        async with client.stream("GET", URL):
            await client.get(URL)
        monkeypatch.setattr(connection_pool, "IDLE_SECONDS", -1.0)
        await client.get(URL)
        assert [connection.closed for connection in network.opened] == [True, True, False]
    assert all(connection.closed for connection in network.opened)


async def test_real_connections_are_kept_alive() -> None:
    """Three requests over the network use one connection, and none stays open at the end."""
    accepted, gone = 0, asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        while await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()
        gone.set()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        async with httpx.AsyncClient(transport=PooledTransport(), trust_env=False) as client:
            for _ in range(3):
                assert (await client.get(url)).json() == {}
        async with asyncio.timeout(TIMEOUT):
            await gone.wait()
    assert accepted == 1


async def test_refused_connection_is_a_connect_error() -> None:
    """A refused connection is the transport's own error, so that a submission is classified as not sent."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with httpx.AsyncClient(transport=PooledTransport(), trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/")
