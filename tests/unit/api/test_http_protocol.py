"""The connection itself: what the server tells the application about a request that is on its way."""

import asyncio

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from service.api.request_bodies import BODY_COMPLETE
from service.api.server import listen, serving

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"


class Watch:
    """An application that answers 204, and notes whether each body was there when its request began."""

    def __init__(self) -> None:
        self.whole: list[bool] = []
        self.keys: list[bytes] = []
        self.began = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.whole.append(bool(scope["state"].get(BODY_COMPLETE)))
        self.keys += [value for name, value in scope["headers"] if name == b"idempotency-key"]
        self.began.set()
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def test_only_body_that_has_come_whole_is_called_so() -> None:
    """What is still on its way must be waited for within its time; the next request on the line starts afresh."""
    watch = Watch()
    listener = listen("127.0.0.1", 0)
    async with serving(watch, listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(HEAD + b"{}")
        assert await reader.readuntil(b"\r\n\r\n")
        watch.began = anyio.Event()
        writer.write(HEAD)
        await watch.began.wait()
        writer.write(b"{}")
        assert await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert watch.whole == [True, False]


@pytest.mark.parametrize("written", [b"order-42", b" order-42", b"order-42 ", b"\torder-42 \t ", b"   order-42"])
async def test_blanks_around_a_header_are_no_part_of_it(written: bytes) -> None:
    """An idempotency key is the same key whatever blanks stand around it: else it is paid twice."""
    watch = Watch()
    listener = listen("127.0.0.1", 0)
    async with serving(watch, listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(HEAD.replace(b"Host", b"Idempotency-Key:" + written + b"\r\nHost") + b"{}")
        assert await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert watch.keys == [b"order-42"]
