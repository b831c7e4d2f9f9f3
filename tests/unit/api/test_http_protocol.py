"""The HTTP protocol: what the application knows about a request that is still being received."""

import asyncio

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from service.api.server import listen, serving
from service.api.whole_request import whole_request

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"


class RecordingApp:
    """An application that responds 204, and records whether each body was complete when its request began."""

    def __init__(self) -> None:
        self.complete: list[bool] = []
        self.keys: list[bytes] = []
        self.began = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.complete.append(whole_request(receive) is not None)
        self.keys += [value for name, value in scope["headers"] if name == b"idempotency-key"]
        self.began.set()
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def test_only_a_received_body_is_marked_complete() -> None:
    """A body that is still being received is not marked; the mark does not pass to the next request."""
    app = RecordingApp()
    listener = listen("127.0.0.1", 0)
    async with serving(app, listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(HEAD + b"{}")
        assert await reader.readuntil(b"\r\n\r\n")
        app.began = anyio.Event()
        writer.write(HEAD)
        await app.began.wait()
        writer.write(b"{}")
        assert await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert app.complete == [True, False]


@pytest.mark.parametrize("written", [b"order-42", b" order-42", b"order-42 ", b"\torder-42 \t ", b"   order-42"])
async def test_whitespace_around_a_header_value_is_removed(written: bytes) -> None:
    """Whitespace does not make another idempotency key, which would be a duplicate charge."""
    app = RecordingApp()
    listener = listen("127.0.0.1", 0)
    async with serving(app, listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(HEAD.replace(b"Host", b"Idempotency-Key:" + written + b"\r\nHost") + b"{}")
        assert await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert app.keys == [b"order-42"]
