"""The HTTP server: which headers it trusts, what it says about itself, and its time limits."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from starlette.types import Receive, Scope, Send

from service.api import http_protocol
from service.api.server import listen, serving

TIMEOUT = 10.0
GET = b"GET /path?token=hidden HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


@dataclass
class Application:
    """An application that responds 204 without reading the body, and keeps the scopes of its requests."""

    scopes: list[Scope] = field(default_factory=list)
    reads: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.scopes.append(scope)
        while self.reads and (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


@dataclass
class Connection:
    """A raw connection to the server."""

    application: Application
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def response(self, request: bytes) -> bytes:
        """Send bytes, and return the head of the response in lower case."""
        self.writer.write(request)
        async with asyncio.timeout(TIMEOUT):
            return (await self.reader.readuntil(b"\r\n\r\n")).lower()

    async def end(self) -> bytes:
        """Return the rest of what the server sends until it closes the connection."""
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read()


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    """Yield a connection to a server with its own application."""
    application, listener = Application(), listen("127.0.0.1", 0)
    async with serving(application, listener, grace=1):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        yield Connection(application, reader, writer)
        writer.close()


async def test_forwarded_address_is_ignored(connection: Connection) -> None:
    """Whoever sends X-Forwarded headers, even from this machine, changes neither its address nor the scheme."""
    await connection.response(GET + b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\r\n")
    [scope] = connection.application.scopes
    assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")


async def test_server_does_not_name_itself(connection: Connection) -> None:
    """A response names no product and no version."""
    assert b"\r\nserver:" not in await connection.response(GET + b"\r\n")


async def test_server_logs_no_path(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    """The server's own access log is off: a path or a query may contain a token."""
    with caplog.at_level(logging.DEBUG):
        await connection.response(GET + b"\r\n")
    assert "hidden" not in caplog.text
    assert not [record for record in caplog.records if record.name == "uvicorn.access"]


async def test_trailers_are_no_headers(connection: Connection) -> None:
    """What follows a chunked body is ignored: no proxy has checked it."""
    connection.application.reads = True
    body = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer late\r\n\r\n"
    await connection.response(POST + body)
    [scope] = connection.application.scopes
    assert b"authorization" not in dict(scope["headers"])


@pytest.mark.parametrize("sent", [b"GET", GET, GET + b"X-Slow: 1"], ids=["a word", "a line", "a header"])
async def test_head_that_does_not_end_closes_the_connection(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """A connection that brings no complete head in time is closed without a response."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.05)
    listener = listen("127.0.0.1", 0)
    async with serving(Application(), listener, grace=1):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        connection = Connection(Application(), reader, writer)
        writer.write(sent)
        assert await connection.end() == b""
        writer.close()


@pytest.mark.parametrize("sent", [b"", GET + b"\r\n"], ids=["nothing", "a request"])
async def test_idle_connection_is_closed_after_its_time(sent: bytes) -> None:
    """A connection without a request, also before its first one, is kept for `keep_alive` seconds."""
    listener = listen("127.0.0.1", 0)
    async with serving(Application(), listener, grace=1, keep_alive=0.05):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        connection = Connection(Application(), reader, writer)
        if sent:
            assert b"204" in await connection.response(sent)
        assert await connection.end() == b""
        writer.close()


async def test_unread_body_that_does_not_end_closes_the_connection(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the response, the rest of a body that nobody reads has a time limit."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.05)
    assert b"204" in await connection.response(POST + b"Content-Length: 100\r\n\r\nbegin")
    assert await connection.end() == b""
