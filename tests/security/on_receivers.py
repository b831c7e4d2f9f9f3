"""Webhook receivers with endless, slow or hostile responses."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import httpx

from tests.security.catalogue import add, attempt, peak, require
from tests.security.environment import ROOT, Json, ServiceUnderTest, bearer, service_under_test
from tests.security.on_names import INSIDE
from tests.security.raw import HOST, Talk, talking
from tests.support.bombs import gzip_bomb

MB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\n"
PIECE = b"a" * 65536


async def _read_request(reader: StreamReader) -> bytes:
    """Read one request, and return its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head


def _endless(first: bytes, piece: bytes, pause: float = 0.0) -> Talk:
    """Return a receiver that sends `first`, and then `piece` without end."""

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await _read_request(reader)
        writer.write(first)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)  # this is the attack: a slow sender

    return talk


def _once(response: bytes) -> Talk:
    """Return a receiver that sends this response and disconnects."""

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await _read_request(reader)
        writer.write(response)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    return talk


async def _unresponsive(_: StreamReader, __: StreamWriter) -> None:
    """Accept the connection, and read and send nothing."""
    await asyncio.sleep(60)


FAILING: dict[str, Talk] = {
    "takes the connection and never reads": _unresponsive,
    "never answers": _endless(b"", b"", 0.1),
    "a status line, one byte at a time": _endless(b"HTTP/1.1 200 O", b"K", 0.1),
    "a header, one byte at a time": _endless(OK + b"X-A: ", b"a", 0.1),
    "headers without end": _endless(OK, b"X-Some-Header: of thirty bytes\r\n" * 1000),
    "a header value without end": _endless(OK + b"X-A: ", PIECE),
    "a reason without end": _endless(b"HTTP/1.1 200 ", PIECE),
    "interim answers without end": _endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100),
    "interim answers without end, slowly": _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
    "no HTTP at all": _once(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "HTTP/0.9": _once(b"<html>hello</html>"),
    "a status of four digits": _once(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    "a status of 99": _once(b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    "two Content-Lengths": _once(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "hung up on before the answer": _once(b""),
    "hung up on in the middle of the head": _once(OK + b"Content-Le"),
    "a redirect inside": _once(f"HTTP/1.1 307 X\r\nLocation: http://{INSIDE}/\r\nContent-Length: 0\r\n\r\n".encode()),
    "a redirect to a file": _once(b"HTTP/1.1 302 X\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
    "an upgrade": _once(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + PIECE),
}
SUCCEEDING: dict[str, Talk] = {
    "a body without end": _endless(OK + b"Content-Length: 99999999999\r\n\r\n", PIECE),
    "a body without end, slowly": _endless(OK + b"Content-Length: 99999999999\r\n\r\n", b"a", 0.1),
    "chunks without end": _endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + PIECE + b"\r\n"),
    "a gzip bomb": _once(OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip_bomb(b" ", 100) * 4),
    "a body shorter than announced": _once(OK + b"Content-Length: 100\r\n\r\nabc"),
}


@contextmanager
def short_timeout(seconds: float) -> Iterator[None]:
    """Reduce the timeout of webhooks to `seconds` inside the block, so that the test is short."""
    import handlers.webhook as module  # noqa: PLC0415 - the module that the service has loaded

    timeout, module.TIMEOUT = module.TIMEOUT, seconds
    registered = module.handlers._handlers
    original = registered["webhook"]
    registered["webhook"] = replace(original, timeout=seconds)
    try:
        yield
    finally:
        module.TIMEOUT, registered["webhook"] = timeout, original


@asynccontextmanager
async def notified(home: Path, talk: Talk, **more: str) -> AsyncIterator[tuple[ServiceUnderTest, str]]:
    """Run the service and a receiver with the behaviour `talk`; yield the service and the URL."""
    async with talking(talk) as port:
        with short_timeout(2.0):
            async with service_under_test(home, NOTIFY_ALLOW=HOST, **more) as g:
                yield g, f"http://{HOST}:{port}/"


async def _attempted(g: ServiceUnderTest, handler: str, fits: Callable[[Json], bool]) -> Json:
    """Return the first delivery of the handler for which `fits` is true."""
    with anyio.fail_after(40):
        while True:
            rows = (await g.http.get(f"/v1/deliveries?handler={handler}", headers=bearer(ROOT))).json()["data"]
            found: list[Json] = [row for row in rows if fits(row)]
            if found:
                return found[0]
            await anyio.sleep(0.02)


async def _notified(home: Path, talk: Talk, status: str) -> str:
    """Notify a hostile receiver: its attempt ends in time with little memory, and other handlers run."""
    async with notified(home, talk) as (g, url):
        with peak() as memory:
            await g.submit(notify=[{"handler": "webhook", "url": url}])
            await _attempted(g, "log", lambda row: row["status"] == "delivered")
            found = await _attempted(g, "webhook", lambda row: row["status"] != "pending")
    require(found["status"] == status, f"it is {found['status']}: {found['last_error']}")
    require(memory[0] < 32 * MB, f"{memory[0] // MB} MB were taken")
    return f"{status}: {found['last_error']}"[:100] if found["last_error"] else status


def _receiver(name: str, talk: Talk, status: str) -> None:
    async def run(home: Path) -> str:
        return await _notified(home, talk, status)

    add("receiver", name, run)


for _name, _talk in FAILING.items():
    _receiver(_name, _talk, "dead")
for _name, _talk in SUCCEEDING.items():
    _receiver(_name, _talk, "delivered")


RETRY_AFTER = {
    "99999999999999999999": 86_400.0,
    "Fri, 31 Dec 9999 23:59:59 GMT": 86_400.0,
    "Thu, 01 Jan 1970 00:00:00 GMT": 0.0,
    "-5": None,
    "1e9": None,
    "\u0662".encode().decode("latin-1"): None,
    "Fri, 99 Foo 99999 99:99:99 +9999": None,
}
"""Values of Retry-After, and the resulting delay in seconds."""


@attempt("receiver", "Retry-After of a hundred years, of the past and of nonsense")
async def bounded_retry_after(_: Path) -> str:
    """Send extreme values of Retry-After: the maximum is a day, and invalid values are ignored."""
    import handlers.webhook as module  # noqa: PLC0415 - the module that the service has loaded

    now = datetime(2026, 5, 6, tzinfo=UTC)
    for text, seconds in RETRY_AFTER.items():
        response = httpx.Response(503, headers=[(b"retry-after", text.encode("latin-1"))])
        found = module._retry_after(response, now)
        require(found == seconds, f"{text!r} delays it by {found}")
    return "a day at most"


@attempt("receiver", "a cookie for tracking")
async def cookie(home: Path) -> str:
    """Set a cookie: no later request contains it."""
    heads: list[bytes] = []

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        heads.append(await _read_request(reader))
        writer.write(b"HTTP/1.1 503 X\r\nSet-Cookie: who=you; Path=/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async with notified(home, talk, RETRY_SCHEDULE="0s,100ms") as (g, url):
        await g.submit(notify=[{"handler": "webhook", "url": url}])
        await _attempted(g, "webhook", lambda row: row["attempts"] >= 2)
    require(len(heads) >= 2, f"{len(heads)} requests")
    require(not any(b"cookie" in head.lower() for head in heads), "it was returned")
    return f"{len(heads)} requests without it"
