"""The sandbox's loopback client: connections that stay open, close, send garbage or nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from service.sandbox.loopback_http import LoopbackHttp

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Peer:
    """Server that sends the next response to each request; an empty one closes the connection."""

    responses: list[bytes]
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    port: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until a response ends it."""
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(4))
                response = self.responses.pop(0)
                writer.write(response)
                if not response or b"close" in response or b"Length" not in response:
                    return
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    def url(self, path: str = "/callbacks/x") -> str:
        """Return an address of this peer."""
        return f"http://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def connected(*responses: bytes) -> AsyncIterator[tuple[Peer, Callable[..., "asyncio.Task[int]"]]]:
    """Run a server, and yield a function that posts to it."""
    peer, plain = Peer(list(responses)), LoopbackHttp()

    def post(path: str = "/callbacks/x", seconds: float = 5.0) -> "asyncio.Task[int]":
        headers = {"Content-Type": "application/json"}
        return asyncio.create_task(plain.post(peer.url(path), body=b"body", headers=headers, seconds=seconds))

    async with await asyncio.start_server(peer, "127.0.0.1", 0) as server:
        peer.port = server.sockets[0].getsockname()[1]
        try:
            yield peer, post
        finally:
            await plain.close()


async def test_connection_is_reused() -> None:
    """Three consecutive posts share a connection and arrive unchanged."""
    async with connected(_OK, b"HTTP/1.1 204 No Content\r\nServer: x, Length\r\n\r\n", _OK) as (peer, post):
        assert [await post("/a?b=c"), await post(), await post()] == [200, 204, 200]
    assert peer.connections == 1
    assert (
        peer.requests[0]
        == (
            f"POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nContent-Length: 4\r\n"
            "Content-Type: application/json\r\n\r\nbody"
        ).encode()
    )


@pytest.mark.parametrize(
    "closing",
    [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 503 Busy\r\n\r\nuntil the end",
        b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 9999999\r\n\r\nclose",
    ],
)
async def test_connection_that_is_not_reusable_is_closed(closing: bytes) -> None:
    """After a response that closes, or without a small length, the next post opens another connection."""
    async with connected(closing, _OK) as (peer, post):
        assert [await post(), await post()] == [503, 200]
    assert peer.connections == 2


async def test_idle_connection_that_was_closed_is_replaced() -> None:
    """If the receiver closes between two posts, the second one uses a new connection."""
    async with connected(_OK, b"", _OK) as (peer, post):
        assert [await post(), await post()] == [200, 200]
    assert peer.connections == 2


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\nLength", b"HTTP/1.1 2", b"", b"x" * 70_000 + b"\r\n\r\n"])
async def test_invalid_http_is_an_os_error(answer: bytes) -> None:
    """Garbage, cut, missing and endless responses raise the same error."""
    async with connected(answer) as (_, post):
        with pytest.raises(OSError, match="not HTTP"):
            await post()


async def test_missing_response_is_a_timeout() -> None:
    """A receiver that does not respond in time also raises an `OSError`."""
    async with connected(b"HTTP/1.1 100 Continue\r\nContent-Length: 50\r\n\r\n") as (_, post):
        with pytest.raises(TimeoutError):
            await post(seconds=0.01)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[bad/", "http://127.0.0.1/a b", "http://ö.test/"])
async def test_invalid_address_is_an_os_error(url: str) -> None:
    """Invalid ports, hosts and white space raise before anything is sent."""
    with pytest.raises(OSError, match="not a valid address"):
        await LoopbackHttp().post(url, body=b"", headers={}, seconds=1)
