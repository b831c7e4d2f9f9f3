"""Request smuggling, slow requests, endless heads and bodies."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio

from service.api import http_protocol as protocol
from service.api import lingering_close
from tests.security.catalogue import add, attempt, check_all, peak, require
from tests.security.environment import ALICE, HOST, ServiceUnderTest, completed, service_under_test
from tests.security.raw import exchange, listen_to, request, statuses
from tests.support.bombs import gzip_bomb

AUTH = f"Authorization: Bearer {ALICE}"
JSON = "Content-Type: application/json"
MB = 1024 * 1024
SECOND = b"GET /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

SMUGGLED = {
    "Content-Length and Transfer-Encoding": (["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
    "Transfer-Encoding and Content-Length": (["Transfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n"),
    "two Content-Lengths": (["Content-Length: 2", "Content-Length: 60"], b"{}"),
    "Content-Length: 2, 60": (["Content-Length: 2, 60"], b"{}"),
    "Content-Length: +2": (["Content-Length: +2"], b"{}"),
    "Content-Length: -1": (["Content-Length: -1"], b"{}"),
    "Content-Length: 0x2": (["Content-Length: 0x2"], b"{}"),
    "Content-Length past 64 bits": (["Content-Length: 99999999999999999999999"], b"{}"),
    "Transfer-Encoding: xchunked": (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
    "Transfer-Encoding: chunked, identity": (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"),
    "Transfer-Encoding after a tab": (["Transfer-Encoding:\tchunked", "Content-Length: 5"], b"0\r\n\r\n"),
    "blank before the colon": (["Transfer-Encoding : chunked", "Content-Length: 5"], b"0\r\n\r\n"),
    "folded header": (["X-Folded: a\r\n Transfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n"),
    "bare line feeds": (["X-A: b\nTransfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n"),
    "chunk size that overflows": (["Transfer-Encoding: chunked"], b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "chunk size with rubbish": (["Transfer-Encoding: chunked"], b"2;" + b"a" * 100 + b"\r\n{}\r\n0\r\n\r\n"),
}


async def _smuggle(lines: list[str], body: bytes, g: ServiceUnderTest) -> str:
    """Send a second request after an ambiguous one: it is not served with the key of the first."""
    first = request("POST", "/v1/tasks", AUTH, JSON, *lines, body=body)
    received = await exchange(g.port, first + SECOND, seconds=2)
    found = statuses(received)
    require(all(status not in {200, 202} for status in found), f"answered {found}")
    require(not (await g.http.get("/v1/tasks")).json()["data"], "a task was created")
    require((await g.http.get("/healthz")).status_code == 200, "the service does not respond any more")
    return f"answered {found}, nothing done"


check_all("smuggling", {name: partial(_smuggle, *sent) for name, sent in SMUGGLED.items()}, service_under_test)


# ── endless heads ────────────────────────────────────────────────────────


@contextmanager
def _few_bytes_discarded() -> Iterator[None]:
    """Reduce the bytes that are discarded after a response to 1 MB inside the block, so that the attempt is short."""
    whole, lingering_close.LINGER_BYTES = lingering_close.LINGER_BYTES, 1 * MB
    try:
        yield
    finally:
        lingering_close.LINGER_BYTES = whole


async def _flood(port: int, first: bytes, chunk: bytes, max_bytes: int) -> tuple[int, bytes]:
    """Send `first`, then `chunk` up to `max_bytes` bytes; return how many were accepted, and the response."""
    sent = 0
    async with await anyio.connect_tcp(HOST, port) as stream:
        try:
            with anyio.move_on_after(10):
                await stream.send(first)
                while sent < max_bytes:
                    await stream.send(chunk)
                    sent += len(chunk)
        except (anyio.BrokenResourceError, OSError):
            pass
        return sent, await listen_to(stream, 1)


FLOODS = {
    "an address without end": (b"GET /", b"a" * 65536),
    "a header name without end": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"a" * 65536),
    "a header value without end": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ", b"a" * 65536),
    "headers without end": (
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"X-Some-Header: of thirty bytes\r\n" * 2000,
    ),
    "trailers without end": (
        b"POST /callbacks/x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X-Some-Trailer: of thirty bytes\r\n" * 2000,
    ),
}


async def _endless(home: Path, first: bytes, chunk: bytes) -> str:
    async with service_under_test(home) as g:
        with peak() as memory, _few_bytes_discarded():
            sent, received = await _flood(g.port, first, chunk, 64 * MB)
        growth = memory[0] // MB
        require(sent < 8 * MB, f"{sent // MB} MB were taken, {growth} MB more memory; answered {statuses(received)}")
        require((await g.http.get("/healthz")).status_code == 200, "the service does not respond any more")
        return f"closed after {sent // 1024} KB, answered {statuses(received)}"


def _add_flood(name: str, first: bytes, chunk: bytes) -> None:
    async def run(home: Path) -> str:
        return await _endless(home, first, chunk)

    add("endless", name, run)


for _name, (_first, _piece) in FLOODS.items():
    _add_flood(_name, _first, _piece)


# ── bodies ───────────────────────────────────────────────────────────────────


@attempt("body", "announced as 10 GB")
async def announced_too_large(home: Path) -> str:
    """Announce a body over every limit: it is refused before it is sent."""
    async with service_under_test(home) as g:
        await g.submit()
        found = []
        for path, lines in ((f"/callbacks/{g.token()}", []), ("/v1/tasks", [AUTH, JSON])):
            received = await exchange(g.port, request("POST", path, *lines, f"Content-Length: {10**10}"), seconds=2)
            found += statuses(received)
        require(found == [413, 413], f"answered {found}")
        return "413 immediately, for callbacks and tasks"


@attempt("body", "chunked, past the limit without saying so")
async def chunked_past_limit(home: Path) -> str:
    """Send endless chunks to a callback with a valid token."""
    whole = lingering_close.LINGER_BYTES
    async with service_under_test(home) as g:
        await g.submit()
        first = request("POST", f"/callbacks/{g.token()}", "Transfer-Encoding: chunked")
        with peak() as memory, _few_bytes_discarded():
            sent, received = await _flood(g.port, first, b"10000\r\n" + b"a" * 65536 + b"\r\n", 64 * MB)
        require(memory[0] < 16 * MB, f"{memory[0] // MB} MB were taken")
        require(
            statuses(received) in ([413], []) and sent < 8 * MB,
            f"{sent // MB} MB taken, answered {statuses(received)}",
        )
        return f"closed after {sent // 1024} KB (the rest is discarded up to {whole // MB} MB, 1 MB in this test)"


@attempt("body", "shorter than announced, then gone")
async def truncated(home: Path) -> str:
    """Disconnect in the middle of the body of a callback."""
    async with service_under_test(home, CONFIRM="never") as g:
        task = await g.submit()
        whole = b'{"id": "up1", "status": "failed"}'
        head = request("POST", f"/callbacks/{g.token()}", f"Content-Length: {len(whole) + 10}", body=whole)
        await exchange(g.port, head, half_close=True, seconds=1)
        require(await g.task(task["id"]) == task, "a truncated body was recorded")
        return "nothing recorded"


@attempt("body", "longer than announced")
async def longer_than_announced(home: Path) -> str:
    """Send more than Content-Length: the rest is neither part of the body nor served as a request."""
    async with service_under_test(home) as g:
        body = b'{"model": "x", "params": {}}'
        head = request("POST", "/v1/tasks", AUTH, JSON, f"Content-Length: {len(body)}", body=body + b"GARBAGE" * 100)
        found = statuses(await exchange(g.port, head, seconds=1))
        require(found in ([422, 400], [422], [400]), f"answered {found}")
        return f"answered {found}"


@attempt("body", "gzip bomb to callbacks and tasks")
async def compressed(home: Path) -> str:
    """Send 100 MB as 100 KB with Content-Encoding: gzip."""
    async with service_under_test(home) as g:
        task = await g.submit()
        bomb = gzip_bomb(b" ", 100)
        gz = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        with peak() as memory:
            callback = (await g.call_back(g.token(), bomb, gz)).status_code
            created = (await g.http.post("/v1/tasks", content=bomb, headers=gz)).status_code
        require((callback, created) == (413, 415), f"answered {callback} and {created}")
        require(memory[0] < 32 * MB, "it was inflated beyond the limit")
        require((await g.task(task["id"]))["status"] == "in_progress", "the task changed")
        return "413 and 415, never inflated beyond the limit"


@attempt("body", "forged callbacks that take all memory for large bodies")
async def forged_slow_bodies(home: Path) -> str:
    """Send slow callbacks with forged tokens: the memory for large bodies stays free for a valid callback."""
    async with service_under_test(home) as g, anyio.create_task_group() as group:
        task = await g.submit()
        forged = request("POST", "/callbacks/forged~1~1.x", "Transfer-Encoding: chunked", body=b"1\r\na\r\n")
        for _ in range(40):
            group.start_soon(lambda: exchange(g.port, forged, seconds=15))
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(8) as waited:
            large = completed("up1") | {"padding": "a" * 100_000}
            response = await g.call_back(g.token(), large)
            require(response.status_code == 204, f"the valid callback was answered {response.status_code}")
            require((await g.task(task["id"])) != {}, "no task")
        group.cancel_scope.cancel()
        require(not waited.cancelled_caught, "the valid callback waits behind forged ones")
    return "the valid one was answered 204 immediately"


# ── slow requests ─────────────────────────────────────────────────────────────────


SLOW = {
    "nothing is ever sent": b"",
    "a head that never ends": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b",
    "the second request's head never ends": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /healthz HTT",
    "the rest of a body after the reply": b"POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999\r\n\r\n",
    "the rest of a large body after the reply": (
        b"POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n"
    ),
    "line breaks between requests": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n\r\n",
}


async def _drip(g: ServiceUnderTest, first: bytes, seconds: float) -> bool:
    """Send `first`, then bytes slowly; return whether the service closed the connection."""
    async with await anyio.connect_tcp(HOST, g.port) as stream, anyio.create_task_group() as group:
        ended = anyio.Event()

        async def receive() -> None:
            await listen_to(stream, seconds)
            ended.set()

        group.start_soon(receive)
        await stream.send(first)
        with anyio.move_on_after(seconds - 1):
            while first and not ended.is_set():
                await anyio.sleep(0.5)  # this is the attack: a slow sender
                try:
                    await stream.send(b"\r\n" if first.endswith(b"\n\r\n\r\n") else b"a")
                except (anyio.BrokenResourceError, OSError):
                    break
            await ended.wait()
        group.cancel_scope.cancel()
    return ended.is_set()


def _slow(name: str, first: bytes) -> None:
    async def run(home: Path) -> str:
        whole, protocol.HEAD_SECONDS = protocol.HEAD_SECONDS, 1.0  # shortened, so that the test is short
        linger, lingering_close.LINGER_SECONDS = lingering_close.LINGER_SECONDS, 1.0
        try:
            async with service_under_test(home, KEEP_ALIVE="1s") as g:
                require(await _drip(g, first, 6), "the connection has no time limit")
        finally:
            protocol.HEAD_SECONDS, lingering_close.LINGER_SECONDS = whole, linger
        return f"closed after {whole:g} s (1 s in this test)"

    add("slowloris", name, run)


for _name, _first in SLOW.items():
    _slow(_name, _first)
