"""Requests that ask for another protocol: their bodies are read, and the connection goes on with HTTP/1.1."""

import asyncio
from dataclasses import dataclass, field

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from service.api.server import listen, serving
from service.api.whole_request import whole_request

TIMEOUT = 20.0
GET = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b'{"a": "Upgrade: h2c\r\n\r\n"}'
UPGRADES = {
    "Java's HttpClient": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n",
    "another order": b"HTTP2-Settings: AAM\r\nUpgrade: h2c\r\nConnection: HTTP2-Settings, upgrade\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "TLS/1.0": b"Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/2.0\r\n",
    "without Connection": b"Upgrade: h2c\r\n",
    "twice": b"Connection: Upgrade\r\nConnection: HTTP2-Settings\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
}


@dataclass
class EchoApp:
    """An application that keeps its requests and responds with their bodies."""

    requests: list[tuple[str, bytes, dict[bytes, bytes]]] = field(default_factory=list)
    complete: list[bool] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body, more = b"", True
        self.complete.append(whole_request(receive) is not None)
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.requests.append((f"{scope['method']} {scope['path']}", body, dict(scope["headers"])))
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _raw(upgrade: bytes, *, chunked: bool) -> bytes:
    """Return a POST with a body that asks for an upgrade."""
    head = b"POST /first?a=b HTTP/1.1\r\nHost: localhost\r\nX-Before: 1\r\n" + upgrade + b"X-After: 2\r\n"
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (
            BODY[:5],
            len(BODY) - 5,
            BODY[5:],
        )
    return head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.mark.parametrize("step", [1, 50, 100_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
async def test_body_behind_an_upgrade_is_read(upgrade: bytes, chunked: bool, step: int) -> None:
    """The request, and the next two on the connection, are served however the bytes are divided."""
    app, listener = EchoApp(), listen("127.0.0.1", 0)
    raw = _raw(upgrade, chunked=chunked) * 2 + GET
    async with serving(app, listener, grace=1):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        received = b""
        for begin in range(0, len(raw), step):
            writer.write(raw[begin : begin + step])
            await asyncio.sleep(0)
        with anyio.fail_after(TIMEOUT):
            while received.count(b"200 OK") < 3:
                part = await reader.read(1 << 16)
                assert part, received
                received += part
        writer.close()
    assert [(name, body) for name, body, _ in app.requests] == [("POST /first", BODY)] * 2 + [("GET /next", b"")]
    for _, _, headers in app.requests[:2]:
        assert (headers[b"host"], headers[b"x-before"], headers[b"x-after"]) == (b"localhost", b"1", b"2")
    assert b"101" not in received


async def test_incomplete_body_behind_an_upgrade_is_not_marked_complete() -> None:
    """The parser takes such a request for complete at the end of its head; the application does not."""
    app, listener = EchoApp(), listen("127.0.0.1", 0)
    raw = _raw(UPGRADES["Java's HttpClient"], chunked=False)
    async with serving(app, listener, grace=1):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(raw[:-5])
        with anyio.fail_after(TIMEOUT):
            while not app.complete:  # noqa: ASYNC110 - the server has no event to wait for
                await anyio.sleep(0.005)
            writer.write(raw[-5:])
            await reader.readuntil(b"200 OK")
        writer.close()
    assert app.complete == [False]


@pytest.mark.parametrize("close", [b"close, Upgrade", b"Upgrade, close"])
async def test_close_beside_an_upgrade_counts(close: bytes) -> None:
    """The other options of Connection keep their meaning."""
    app, listener = EchoApp(), listen("127.0.0.1", 0)
    async with serving(app, listener, grace=1):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(_raw(b"Connection: " + close + b"\r\nUpgrade: h2c\r\n", chunked=False))
        with anyio.fail_after(TIMEOUT):
            assert (await reader.read()).endswith(BODY)
        writer.close()


@pytest.mark.parametrize("raw", [b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_other_protocols_are_400(raw: bytes) -> None:
    """A tunnel, and HTTP/2 without asking first, are refused; what follows is not parsed."""
    app, listener = EchoApp(), listen("127.0.0.1", 0)
    async with serving(app, listener, grace=1):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(raw + GET)
        with anyio.fail_after(TIMEOUT):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
    assert not app.requests
