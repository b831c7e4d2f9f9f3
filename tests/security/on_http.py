"""HTTP itself bent: smuggling, slowness, endless heads and bodies."""

import gzip
from pathlib import Path

import anyio

from service.api import http_protocol as protocol
from tests.security.catalogue import add, attempt, hold, peak
from tests.security.environment import ALICE, HOST, Ground, completed, ground
from tests.security.raw import exchange, listen_to, request, statuses

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


async def _smuggle(home: Path, lines: list[str], body: bytes) -> str:
    """Put a second request behind an ambiguous first: it must not be answered as somebody who is signed in."""
    async with ground(home) as g:
        first = request("POST", "/v1/tasks", AUTH, JSON, *lines, body=body)
        received = await exchange(g.port, first + SECOND, seconds=2)
        found = statuses(received)
        hold(all(status not in {200, 202} for status in found), f"answered {found}")
        hold(not (await g.http.get("/v1/tasks")).json()["data"], "a task was made")
        hold((await g.http.get("/healthz")).status_code == 200, "the service does not answer any more")
        return f"answered {found}, nothing done"


def _smuggled(name: str, lines: list[str], body: bytes) -> None:
    async def play(home: Path) -> str:
        return await _smuggle(home, lines, body)

    add("smuggling", name, play)


for _name, (_lines, _body) in SMUGGLED.items():
    _smuggled(_name, _lines, _body)


# ── heads without end ────────────────────────────────────────────────────────


async def _flood(port: int, first: bytes, piece: bytes, most: int) -> tuple[int, bytes]:
    """Send `first`, then `piece` up to `most` bytes; return how many were taken, and the answer."""
    sent = 0
    async with await anyio.connect_tcp(HOST, port) as stream:
        try:
            with anyio.move_on_after(10):
                await stream.send(first)
                while sent < most:
                    await stream.send(piece)
                    sent += len(piece)
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


async def _endless(home: Path, first: bytes, piece: bytes) -> str:
    async with ground(home) as g:
        with peak() as memory:
            sent, received = await _flood(g.port, first, piece, 64 * MB)
        grown = memory[0] // MB
        hold(sent < 8 * MB, f"{sent // MB} MB were taken, {grown} MB more memory; answered {statuses(received)}")
        hold((await g.http.get("/healthz")).status_code == 200, "the service does not answer any more")
        return f"hung up after {sent // 1024} KB, answered {statuses(received)}"


def _flooded(name: str, first: bytes, piece: bytes) -> None:
    async def play(home: Path) -> str:
        return await _endless(home, first, piece)

    add("endless", name, play)


for _name, (_first, _piece) in FLOODS.items():
    _flooded(_name, _first, _piece)


# ── bodies ───────────────────────────────────────────────────────────────────


@attempt("body", "announced as 10 GB")
async def announced(home: Path) -> str:
    """Announce a body that no limit allows: it must be refused before it comes."""
    async with ground(home) as g:
        await g.submit()
        found = []
        for path, lines in ((f"/callbacks/{g.token()}", []), ("/v1/tasks", [AUTH, JSON])):
            received = await exchange(g.port, request("POST", path, *lines, f"Content-Length: {10**10}"), seconds=2)
            found += statuses(received)
        hold(found == [413, 413], f"answered {found}")
        return "413 at once, on callbacks and tasks"


@attempt("body", "chunked, past the limit without saying so")
async def chunked_past_limit(home: Path) -> str:
    """Send chunks without end to a callback with a good token."""
    async with ground(home) as g:
        await g.submit()
        first = request("POST", f"/callbacks/{g.token()}", "Transfer-Encoding: chunked")
        sent, received = await _flood(g.port, first, b"10000\r\n" + b"a" * 65536 + b"\r\n", 64 * MB)
        hold(
            statuses(received) in ([413], []) and sent < 8 * MB,
            f"{sent // MB} MB taken, answered {statuses(received)}",
        )
        return f"hung up after {sent // 1024} KB"


@attempt("body", "shorter than announced, then gone")
async def truncated(home: Path) -> str:
    """Hang up in the middle of a callback's body."""
    async with ground(home, CONFIRM="never") as g:
        task = await g.submit()
        whole = b'{"id": "up1", "status": "failed"}'
        head = request("POST", f"/callbacks/{g.token()}", f"Content-Length: {len(whole) + 10}", body=whole)
        await exchange(g.port, head, half_close=True, seconds=1)
        hold(await g.task(task["id"]) == task, "half a body was believed")
        return "nothing recorded"


@attempt("body", "longer than announced")
async def lying(home: Path) -> str:
    """Send more than Content-Length says: the rest must not count as this body, nor be served as a request."""
    async with ground(home) as g:
        body = b'{"model": "x", "params": {}}'
        head = request("POST", "/v1/tasks", AUTH, JSON, f"Content-Length: {len(body)}", body=body + b"GARBAGE" * 100)
        found = statuses(await exchange(g.port, head, seconds=1))
        hold(found in ([422, 400], [422], [400]), f"answered {found}")
        return f"answered {found}"


@attempt("body", "gzip bomb to callbacks and tasks")
async def compressed(home: Path) -> str:
    """Send 100 MB as 100 KB with Content-Encoding: gzip."""
    async with ground(home) as g:
        task = await g.submit()
        bomb = gzip.compress(b" " * 100 * MB)
        gz = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        with peak() as memory:
            called = (await g.call_back(g.token(), bomb, gz)).status_code
            asked = (await g.http.post("/v1/tasks", content=bomb, headers=gz)).status_code
        hold((called, asked) == (400, 415), f"answered {called} and {asked}")
        hold(memory[0] < 32 * MB, "it was inflated")
        hold((await g.task(task["id"]))["status"] == "in_progress", "the task changed")
        return "400 and 415, never inflated"


@attempt("body", "forged callbacks that take all the room for large bodies")
async def crowded_out(home: Path) -> str:
    """Hold the room for large callback bodies with slow ones whose token is forged; a real one must still come in."""
    async with ground(home) as g, anyio.create_task_group() as group:
        task = await g.submit()
        forged = request("POST", "/callbacks/forged~1~1.x", "Transfer-Encoding: chunked", body=b"1\r\na\r\n")
        for _ in range(40):
            group.start_soon(lambda: exchange(g.port, forged, seconds=15))
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(8) as waited:
            large = completed("up1") | {"padding": "a" * 100_000}
            answer = await g.call_back(g.token(), large)
            hold(answer.status_code == 204, f"the real callback was answered {answer.status_code}")
            hold((await g.task(task["id"])) != {}, "no task")
        group.cancel_scope.cancel()
        hold(not waited.cancelled_caught, "the real callback waits behind forged ones")
    return "the real one was answered 204 at once"


# ── slowness ─────────────────────────────────────────────────────────────────


SLOW = {
    "nothing is ever sent": b"",
    "a head that never ends": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b",
    "the second request's head never ends": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /healthz HTT",
    "the rest of a body after its answer": b"POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999\r\n\r\n",
    "line breaks between requests": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n\r\n",
}


async def _drip(g: Ground, first: bytes, seconds: float) -> bool:
    """Send `first`, then a byte a second; return whether we were hung up on."""
    async with await anyio.connect_tcp(HOST, g.port) as stream, anyio.create_task_group() as group:
        ended = anyio.Event()

        async def hear() -> None:
            await listen_to(stream, seconds)
            ended.set()

        group.start_soon(hear)
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
    async def play(home: Path) -> str:
        whole, protocol.HEAD_SECONDS = protocol.HEAD_SECONDS, 1.0  # shortened, so that nobody waits for it
        try:
            async with ground(home) as g:
                hold(await _drip(g, first, 6), "the connection is held for as long as the attacker likes")
        finally:
            protocol.HEAD_SECONDS = whole
        return f"hung up on after {whole:g} s (1 s in this test)"

    add("slowloris", name, play)


for _name, _first in SLOW.items():
    _slow(_name, _first)
