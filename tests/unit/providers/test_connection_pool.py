"""Connections to the upstream: one request on each at a time, kept alive, and let go when nobody wants them."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from service.providers import PooledTransport
from service.providers import connection_pool as connections

URL = "http://upstream.test/"
PATIENCE = 10.0


class Body(httpx.AsyncByteStream):
    """A short body."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{}"


class Wire(httpx.AsyncBaseTransport):
    """One connection, which complains when two requests are on it at once."""

    def __init__(self, exchange: "Exchange") -> None:
        self.exchange, self.busy, self.closed = exchange, False, False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer when the exchange lets it."""
        assert not self.busy
        assert not self.closed
        self.busy = True
        try:
            self.exchange.used.append(self)
            self.exchange.begun.set()
            await self.exchange.go.wait()
            if self.exchange.error:
                raise self.exchange.error
        finally:
            self.busy = False
        return httpx.Response(200, stream=Body(), request=request)

    async def aclose(self) -> None:
        """Close."""
        self.closed = True


class Exchange:
    """Opens wires, and lets them answer."""

    def __init__(self) -> None:
        self.opened: list[Wire] = []
        self.used: list[Wire] = []
        self.error: Exception | None = None
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    def open(self) -> Wire:
        """Open a wire."""
        self.opened.append(Wire(self))
        return self.opened[-1]

    def client(self) -> httpx.AsyncClient:
        """Return a client over connections of this exchange."""
        return httpx.AsyncClient(transport=PooledTransport(self.open))


async def test_requests_one_after_the_other_share_a_connection() -> None:
    """What was given back is lent again."""
    exchange = Exchange()
    async with exchange.client() as client:
        for _ in range(3):
            assert (await client.get(URL)).json() == {}
    assert len(exchange.opened) == 1


async def test_an_open_answer_keeps_its_connection() -> None:
    """While an answer is being read, the next request goes over another connection; afterwards over the freed one."""
    exchange = Exchange()
    async with exchange.client() as client:
        async with client.stream("GET", URL):
            await client.get(URL)
        await client.get(URL)
    assert exchange.used == [exchange.opened[0], exchange.opened[1], exchange.opened[0]]


async def test_an_answer_that_is_closed_twice_gives_its_connection_back_once() -> None:
    """Two requests at once never meet on one connection, however often an answer before them was closed."""
    exchange = Exchange()
    async with exchange.client() as client:
        request = client.build_request("GET", URL)
        answer = await client.send(request, stream=True)
        for _ in range(2):
            await answer.stream.aclose()  # type: ignore[union-attr] # an asynchronous client's is asynchronous
        exchange.go.clear()
        two = [asyncio.create_task(client.get(URL)) for _ in range(2)]
        await asyncio.sleep(0)
        exchange.go.set()
        await asyncio.gather(*two)
    assert len(exchange.opened) == 2


async def test_a_connection_that_failed_is_given_back() -> None:
    """An error frees the connection, whose own pool opens it anew."""
    exchange = Exchange()
    async with exchange.client() as client:
        exchange.error = httpx.ReadError("cut")
        with pytest.raises(httpx.ReadError):
            await client.get(URL)
        exchange.error = None
        await client.get(URL)
    assert len(exchange.opened) == 1


async def test_a_request_that_is_given_up_frees_its_connection() -> None:
    """Cancelling a request leaves nothing lent."""
    exchange = Exchange()
    async with exchange.client() as client:
        exchange.go.clear()
        given_up = asyncio.create_task(client.get(URL))
        await exchange.begun.wait()
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        exchange.go.set()
        await client.get(URL)
    assert len(exchange.opened) == 1


async def test_a_connection_whose_answer_breaks_off_at_its_end_is_lent_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled while it closes an answer, the connection may be blocked: the next request opens another one."""

    async def break_off(_body: Body) -> None:
        raise asyncio.CancelledError

    exchange = Exchange()
    async with exchange.client() as client:
        monkeypatch.setattr(Body, "aclose", break_off)
        with pytest.raises(asyncio.CancelledError):
            await client.get(URL)
        monkeypatch.undo()
        await client.get(URL)
        assert [wire.closed for wire in exchange.opened] == [True, False]


async def test_what_nobody_wants_any_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that was idle for too long is closed by the next request, which keeps its own."""
    exchange = Exchange()
    async with exchange.client() as client:
        async with client.stream("GET", URL):
            await client.get(URL)
        monkeypatch.setattr(connections, "IDLE_SECONDS", -1.0)
        await client.get(URL)
        assert [wire.closed for wire in exchange.opened] == [False, True]
    assert all(wire.closed for wire in exchange.opened)


async def test_real_connections_are_kept_alive() -> None:
    """Three requests over the network take one connection, and none is left open at the end."""
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
        async with asyncio.timeout(PATIENCE):
            await gone.wait()
    assert accepted == 1


async def test_nobody_listens_is_told_as_never_left() -> None:
    """A refused connection is the transport's own error, so that a submission is known not to have left."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with httpx.AsyncClient(transport=PooledTransport(), trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/")
