"""Responses before the end of a body: the peer can read them, and the server discards the rest within bounds."""

import asyncio
from dataclasses import dataclass, field

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from service.api import http_closing, http_protocol, lingering_close
from service.api.http_closing import SMALL_REST
from service.api.http_protocol import MAX_HEAD
from service.api.server import listen, serving
from tests.unit.api.test_connections import running

MB = 1024 * 1024
TIMEOUT = 20.0
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
ENDLESS = HEAD + b"Content-Length: 1000000000\r\n\r\n"


@dataclass(eq=False)
class RefusingApp:
    """An application that responds 413 without reading the body, once `release` is set."""

    scopes: list[Scope] = field(default_factory=list)
    release: anyio.Event = field(default_factory=anyio.Event)
    held: bool = False

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Serve one request."""
        self.scopes.append(scope)
        if self.held:
            await self.release.wait()
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})


async def _open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def _until_closed(writer: asyncio.StreamWriter, *, part: bytes = b"a") -> None:
    """Send `part` until the server has closed the whole connection."""
    with anyio.fail_after(TIMEOUT):
        while True:
            writer.write(part)
            try:
                await writer.drain()
            except ConnectionError:
                return
            await anyio.sleep(0.005)


BODIES = {
    "whole": HEAD + b"Content-Length: %d\r\n\r\n" % (8 * MB) + b"a" * 8 * MB,
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 128,
    "HTTP/1.0": b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % (8 * MB) + b"a" * 8 * MB,
    "Connection: close": HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (8 * MB) + b"a" * 8 * MB,
    "not HTTP": b"HELO example.org\r\n" + b"a" * 3 * MB,
    "a large head": HEAD + b"X-A: " + b"a" * 3 * MB,
}


@pytest.mark.parametrize("sent", BODIES.values(), ids=BODIES)
async def test_response_is_read_after_the_whole_body_was_sent(sent: bytes) -> None:
    """A client that sends everything before it reads gets the response and an orderly end, never a reset."""
    listener = listen("127.0.0.1", 0)
    async with serving(RefusingApp(), listener, grace=1):
        reader, writer = await _open(listener.getsockname()[1])
        with anyio.fail_after(TIMEOUT):
            for begin in range(0, len(sent), 65536):
                writer.write(sent[begin : begin + 65536])
                await writer.drain()
            received = (await reader.read()).lower()
        assert received.split()[1] in (b"413", b"400", b"431")
        assert b"\r\nconnection: close\r\n" in received
        writer.close()


async def test_small_rest_is_read_and_the_connection_kept() -> None:
    """A short body that nobody reads costs no connection; the next request is served on it."""
    app, listener = RefusingApp(), listen("127.0.0.1", 0)
    async with serving(app, listener, grace=1):
        reader, writer = await _open(listener.getsockname()[1])
        for _ in range(2):
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % SMALL_REST)
            with anyio.fail_after(TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\nno")
                assert b"connection: close" not in head
                writer.write(b"a" * SMALL_REST)
                await writer.drain()
        assert len(app.scopes) == 2
        writer.close()


async def test_body_that_is_nearly_complete_keeps_the_connection() -> None:
    """What counts is the rest of the body, not its size."""
    app, listener = RefusingApp(held=True), listen("127.0.0.1", 0)
    async with serving(app, listener, grace=1):
        reader, writer = await _open(listener.getsockname()[1])
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % (SMALL_REST + 1000) + b"a" * 1500)
        await anyio.wait_all_tasks_blocked()
        app.release.set()
        with anyio.fail_after(TIMEOUT):
            assert b"connection: close" not in await reader.readuntil(b"\r\n\r\nno")
        writer.close()


@pytest.mark.parametrize("size", [10, 10 * MB])
async def test_final_response_replaces_100_continue(size: int) -> None:
    """A client that waits for 100 gets the response at once; it may not send the body, so the connection ends."""
    listener = listen("127.0.0.1", 0)
    async with serving(RefusingApp(), listener, grace=1):
        reader, writer = await _open(listener.getsockname()[1])
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size)
        with anyio.fail_after(2):
            received = await reader.read()
        assert received.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nconnection: close\r\n" in received
        writer.close()


async def test_discarded_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that never ends its body is cut off after LINGER_BYTES."""
    monkeypatch.setattr(lingering_close, "LINGER_BYTES", 2 * MB)
    listener = listen("127.0.0.1", 0)
    async with serving(RefusingApp(), listener, grace=1):
        _, writer = await _open(listener.getsockname()[1])
        writer.write(ENDLESS)
        await _until_closed(writer, part=b"a" * 65536)
        writer.close()


@pytest.mark.parametrize("part", [b"", b"a"], ids=["silent", "slow"])
async def test_time_of_discarding_is_bounded(monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    """A silent peer is cut off after LINGER_PAUSE, and one that sends slowly after LINGER_SECONDS."""
    monkeypatch.setattr(lingering_close, "LINGER_PAUSE", 0.1 if part else 0.05)
    monkeypatch.setattr(lingering_close, "LINGER_SECONDS", 0.3 if part else 1000.0)
    listener = listen("127.0.0.1", 0)
    async with serving(RefusingApp(), listener, grace=1):
        reader, writer = await _open(listener.getsockname()[1])
        writer.write(ENDLESS)
        with anyio.fail_after(TIMEOUT):
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
            if not part:
                await anyio.sleep(0.1)
        await _until_closed(writer, part=b"a")
        writer.close()


async def test_shutdown_ends_the_discarding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stops does not wait LINGER_SECONDS for peers that still send."""
    monkeypatch.setattr(lingering_close, "STOP_SECONDS", 0.05)
    listener = listen("127.0.0.1", 0)
    async with serving(RefusingApp(), listener, grace=15):
        reader, writer = await _open(listener.getsockname()[1])
        writer.write(ENDLESS)
        with anyio.fail_after(TIMEOUT):
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < lingering_close.LINGER_PAUSE
    writer.close()


async def test_connection_that_lingers_counts_and_is_closed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one of `max_connections`, and goes when there are too many; its buffers are empty."""
    app = RefusingApp()
    async with running(app, monkeypatch, max_connections=1) as server:
        reader, writer = await server.connect()
        writer.write(ENDLESS + b"a" * MAX_HEAD)
        with anyio.fail_after(TIMEOUT):
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        (protocol,) = server.protocols
        assert (protocol.transport.lingers, len(protocol.cycle.body)) == (True, 0)
        other, second = await server.connect()
        second.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with anyio.fail_after(TIMEOUT):
            assert b"413" in await other.readuntil(b"\r\n\r\nno")
        await _until_closed(writer)
        for each in (writer, second):
            each.close()


async def test_refusal_for_too_many_connections_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that comes after the 503 does not reset the connection."""
    app = RefusingApp(held=True)
    async with running(app, monkeypatch, max_connections=1) as server:
        _, busy = await server.connect()
        busy.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
        await _wait_for_request(app)
        reader, writer = await server.connect()
        for _ in range(20):
            writer.write(b"a" * 65536)
            await writer.drain()
        with anyio.fail_after(TIMEOUT):
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        app.release.set()
        for each in (busy, writer):
            each.close()


async def _wait_for_request(app: RefusingApp) -> None:
    with anyio.fail_after(TIMEOUT):
        while not app.scopes:  # noqa: ASYNC110 - the server has no event to wait for
            await anyio.sleep(0.005)


async def test_error_in_a_body_ends_its_request() -> None:
    """A request whose chunks cannot be parsed is over for the application at once, not after its time limit."""
    ended = anyio.Event()

    async def read(_: Scope, receive: Receive, __: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    listener = listen("127.0.0.1", 0)
    async with serving(read, listener, grace=1):
        reader, writer = await _open(listener.getsockname()[1])
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        await anyio.wait_all_tasks_blocked()
        writer.write(b"no size\r\n")
        with anyio.fail_after(2):
            await ended.wait()
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


@dataclass(eq=False)
class SlowApp:
    """An application that responds 200 once `release` is set, and records when its client is gone."""

    began: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)
    gone: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await receive()
        self.began.set()

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await self.release.wait()
            group.cancel_scope.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


GOOD = HEAD + b"Content-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("more", [b"", b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nX-A: " + b"a" * 100_000])
async def test_complete_request_is_answered_whatever_follows(more: bytes) -> None:
    """A peer that ends its half of the connection, or sends what is no request, gets the response of the one before."""
    app, listener = SlowApp(), listen("127.0.0.1", 0)
    async with serving(app, listener, grace=1):
        reader, writer = await _open(listener.getsockname()[1])
        writer.write(GOOD)
        await app.began.wait()
        if more:
            writer.write(more)
        else:
            writer.write_eof()
        await anyio.wait_all_tasks_blocked()
        app.release.set()
        with anyio.fail_after(TIMEOUT):
            received = await reader.read()
        assert (received.count(b"HTTP/1.1"), received[-2:]) == (1, b"ok")
        writer.close()


async def test_peer_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-closed connection is not kept for long: usually the peer has ended, and nobody reads the response."""
    monkeypatch.setattr(http_closing, "HALF_CLOSE_SECONDS", 0.05)
    app, listener = SlowApp(), listen("127.0.0.1", 0)
    async with serving(app, listener, grace=1):
        _, writer = await _open(listener.getsockname()[1])
        writer.write(GOOD)
        await app.began.wait()
        writer.close()
        with anyio.fail_after(TIMEOUT):
            await app.gone.wait()
        app.release.set()


@pytest.mark.parametrize("stray", [b"\n", b"\r\n", b"\r\n\r\n"])
async def test_line_break_behind_a_body_does_not_shorten_the_idle_time(
    monkeypatch: pytest.MonkeyPatch, stray: bytes
) -> None:
    """Some clients send one; the connection stays idle, not in the middle of a head, and serves the next request."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.01)
    app, listener = RefusingApp(), listen("127.0.0.1", 0)
    async with serving(app, listener, grace=1):
        reader, writer = await _open(listener.getsockname()[1])
        for _ in range(2):
            writer.write(GOOD)
            with anyio.fail_after(TIMEOUT):
                assert b"413" in await reader.readuntil(b"\r\n\r\nno")
            writer.write(stray)
            await anyio.sleep(0.1)
        assert len(app.scopes) == 2
        writer.close()
