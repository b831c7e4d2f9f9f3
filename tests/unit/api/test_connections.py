"""The bounds of connections: their number, what a peer makes the server hold, and the time without progress."""

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.connections import STALL_SECONDS
from service.api.http_protocol import MAX_QUEUED, BoundedProtocol
from service.api.server import listen, serving

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = 8 * 1024 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False)
class CountingApp:
    """An application that counts its requests and responds with `size` bytes once `release` is set."""

    size: int = 2
    scopes: list[Scope] = field(default_factory=list)
    release: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.scopes.append(scope)
        while (await receive()).get("more_body"):
            pass
        await self.release.wait()
        headers = [(b"content-length", str(self.size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * self.size})


@dataclass(kw_only=True)
class Running:
    """A running server: its protocols, in the order of their connections."""

    connect: Callable[[], "asyncio.Future[Streams]"]
    protocols: list[BoundedProtocol]


@asynccontextmanager
async def running(app: ASGIApp, monkeypatch: pytest.MonkeyPatch, **options: int) -> AsyncIterator[Running]:
    """Serve `app` inside the block."""
    protocols: list[BoundedProtocol] = []
    made = BoundedProtocol.connection_made

    def connection_made(self: BoundedProtocol, transport: asyncio.Transport) -> None:
        protocols.append(self)
        made(self, transport)

    monkeypatch.setattr(BoundedProtocol, "connection_made", connection_made)
    listener = listen("127.0.0.1", 0)
    async with serving(app, listener, grace=1, **options):
        address = listener.getsockname()
        yield Running(
            connect=lambda: asyncio.ensure_future(asyncio.open_connection(*address)),
            protocols=protocols,
        )


def _stop_reading(writer: asyncio.StreamWriter) -> None:
    """Read nothing of what the server sends."""
    assert isinstance(writer.transport, asyncio.Transport)
    writer.transport.pause_reading()


async def _until(fits: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not fits():  # noqa: ASYNC110 - the server has no event to wait for
            await anyio.sleep(0.005)


async def test_few_requests_of_one_connection_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten thousand requests at most MAX_QUEUED wait, the rest stays unread; every one is answered in order."""
    app, count = CountingApp(), 10_000
    async with running(app, monkeypatch) as server:
        reader, writer = await server.connect()
        writer.write(GET * count)
        await _until(lambda: bool(app.scopes))
        (protocol,) = server.protocols
        await _until(lambda: protocol.flow.held)
        assert len(protocol.pipeline) == MAX_QUEUED
        assert not protocol.transport.is_reading()
        app.release.set()
        received = 0
        with anyio.fail_after(30):
            while received < count:
                received += (await reader.read(1 << 20)).count(b"200 OK")
                assert len(protocol.pipeline) <= MAX_QUEUED
        assert len(app.scopes) == received == count
        writer.close()


@pytest.mark.parametrize("junk", [b"junk\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"GE" + GET])
@pytest.mark.parametrize("parts", [1, 40], ids=["at once", "in parts"])
async def test_nothing_is_parsed_behind_what_cannot_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, junk: bytes, parts: int
) -> None:
    """A peer that sends junk behind a request gets its response and the end; the junk costs one line, not thousands."""
    app = CountingApp()
    async with running(app, monkeypatch) as server:
        reader, writer = await server.connect()
        writer.write(GET)
        await _until(lambda: bool(app.scopes))
        (protocol,) = server.protocols
        for _ in range(parts):
            writer.write(junk * (2000 // parts))
            await asyncio.sleep(0)
        await _until(lambda: protocol.flow.held)
        await asyncio.sleep(0.05)
        app.release.set()
        with anyio.fail_after(10):
            received = await reader.read()
        assert (received.count(b"200 OK"), len(app.scopes)) == (1, 1)
        assert len([line for line in caplog.records if "Invalid HTTP request" in line.getMessage()]) == 1
        writer.close()


@pytest.mark.parametrize("step", [1, 7, 40, 4096])
async def test_requests_are_parsed_however_they_are_divided(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Requests with bodies that contain blank lines are complete wherever the received pieces end."""
    app = CountingApp()
    app.release.set()
    body = b"\r\n\r\n" * 30
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    chunked = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    raw = (post + GET + chunked % (len(body), body)) * 7
    async with running(app, monkeypatch) as server:
        reader, writer = await server.connect()
        for begin in range(0, len(raw), step):
            writer.write(raw[begin : begin + step])
            if step < 7:
                await asyncio.sleep(0)
        received = b""
        with anyio.fail_after(20):
            while received.count(b"200 OK") < 21:
                part = await reader.read(1 << 16)
                assert part, "the connection was closed"
                received += part
        assert len(app.scopes) == 21
        assert b"400" not in received
        writer.close()


async def test_peer_that_reads_no_response_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a response waits for its peer no further request is parsed; after a time without progress it ends."""
    app = CountingApp(size=LARGE)
    app.release.set()
    async with running(app, monkeypatch) as server:
        _, writer = await server.connect()
        _stop_reading(writer)
        writer.write(GET)
        await _until(lambda: bool(server.protocols) and server.protocols[0].flow.write_paused)
        protocol = server.protocols[0]
        assert not protocol.transport.is_reading()
        writer.write(GET)
        await anyio.wait_all_tasks_blocked()
        assert len(app.scopes) == 1
        registry = protocol.server_state.registry
        assert registry.sweep([protocol], 0.0) == 0
        assert registry.sweep([protocol], STALL_SECONDS) == 1
        await _until(lambda: not registry.stalled and not protocol.server_state.connections)
        writer.close()


async def test_closing_connection_does_not_wait_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that ends its connection is dropped too when nobody reads it."""
    app = CountingApp(size=LARGE)
    app.release.set()
    async with running(app, monkeypatch) as server:
        _, writer = await server.connect()
        _stop_reading(writer)
        writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await _until(lambda: bool(server.protocols) and server.protocols[0].transport.is_closing())
        protocol = server.protocols[0]
        assert protocol.unsent_bytes()
        registry = protocol.server_state.registry
        registry.sweep([protocol], 0.0)
        assert registry.sweep([protocol], STALL_SECONDS) == 1
        await _until(lambda: not protocol.server_state.connections)
        writer.close()


async def test_reader_that_continues_gets_the_whole_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response larger than every buffer is complete, and the connection serves the next request."""
    app = CountingApp(size=LARGE)
    app.release.set()
    async with running(app, monkeypatch) as server:
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            assert len(await reader.readexactly(LARGE)) == LARGE
        writer.close()


async def test_new_connection_closes_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the maximum the longest idle connection ends, one with a request in progress stays, the newest is served."""
    app = CountingApp()
    async with running(app, monkeypatch, max_connections=3) as server:
        busy = await server.connect()
        busy[1].write(GET)
        await _until(lambda: bool(app.scopes))
        oldest = await server.connect()
        await _until(lambda: len(server.protocols) == 2)
        others = [await server.connect() for _ in range(2)]
        assert await oldest[0].read() == b""
        app.release.set()
        for reader, writer in [others[1], busy]:
            if writer is not busy[1]:
                writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        for _, writer in [busy, oldest, *others]:
            writer.close()


async def test_connection_is_refused_when_all_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an idle connection the newest one gets a 503 with Retry-After."""
    app = CountingApp()
    async with running(app, monkeypatch, max_connections=1) as server:
        busy = await server.connect()
        busy[1].write(GET)
        await _until(lambda: bool(app.scopes))
        reader, writer = await server.connect()
        assert (await reader.read()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        app.release.set()
        assert b"200 OK" in await busy[0].readuntil(b"\r\n\r\n")
        busy[1].close()
        writer.close()


async def test_heads_that_wait_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large heads fill the queue before there are MAX_QUEUED of them; each is answered in the end."""
    app = CountingApp()
    large = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 30_000 + b"\r\n\r\n"
    async with running(app, monkeypatch) as server:
        reader, writer = await server.connect()
        writer.write(large * 40)
        await _until(lambda: bool(server.protocols) and server.protocols[0].flow.held)
        assert len(server.protocols[0].pipeline) <= 5
        app.release.set()
        received = 0
        with anyio.fail_after(20):
            while received < 40:
                received += (await reader.read(1 << 20)).count(b"200 OK")
        writer.close()


async def test_head_with_too_many_headers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short headers take far more memory than their bytes; a hundred of them are usual enough."""
    app = CountingApp()
    app.release.set()
    async with running(app, monkeypatch) as server:
        for count, status in ((100, b"200"), (10_000, b"400")):
            reader, writer = await server.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a:b\r\n" * count + b"\r\n")
            assert (await reader.readline()).split()[1] == status
            writer.close()
    assert len(app.scopes) == 1


async def test_reset_connection_is_released_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that its peer resets after a response does not stay in memory until its idle time is over."""
    app = CountingApp()
    app.release.set()
    async with running(app, monkeypatch) as server:
        reader, writer = await server.connect()
        writer.write(GET)
        await reader.readuntil(b"xx")
        protocol = weakref.ref(server.protocols[0])
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await _until(lambda: not server.protocols[0].connections)
        server.protocols.clear()
        gc.collect()
        assert protocol() is None
