"""Many requests behind each other on one connection, and chunks, trailers and lines that parsers disagree about."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.security.catalogue import add, attempt, hold, peak
from tests.security.environment import ALICE, BOB, Ground, ground
from tests.security.raw import exchange, request, statuses

AUTH = f"Authorization: Bearer {ALICE}"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
CLOSE = "Connection: close"
LAST = b"0\r\n\r\n"
Write = Callable[[bytes], bytes]
"""Gets the body of a good request, and returns what is sent: a first request, and that one hidden in it."""


def _posted(*lines: str, body: bytes, more: bytes = b"") -> bytes:
    return request("POST", "/v1/tasks", AUTH, JSON, *lines, body=body) + more


def _whole(good: bytes) -> bytes:
    """Return the request that must never be carried out: it makes a task."""
    return _posted(f"Content-Length: {len(good)}", CLOSE, body=good)


def _hidden(method: str, path: str, *lines: str) -> Write:
    """Hide the request in the body of another."""

    def write(good: bytes) -> bytes:
        inner = _whole(good)
        return request(method, path, *lines, f"Content-Length: {len(inner)}", CLOSE, body=inner)

    return write


BLURRED: dict[str, Write] = {
    "chunked twice": lambda good: _posted(CHUNKED, CHUNKED, body=LAST, more=_whole(good)),
    "chunked, chunked": lambda good: _posted("Transfer-Encoding: chunked, chunked", body=LAST, more=_whole(good)),
    "chunked in HTTP/1.0": lambda good: _posted(CHUNKED, body=LAST, more=_whole(good)).replace(
        b"HTTP/1.1", b"HTTP/1.0", 1
    ),
    "identity": lambda good: _posted("Transfer-Encoding: identity", "Content-Length: 2", body=b"{}", more=_whole(good)),
    "a vertical tab before chunked": lambda good: _posted(
        "Transfer-Encoding: \x0bchunked", "Content-Length: 2", body=b"{}", more=_whole(good)
    ),
    "chunked in quotes": lambda good: _posted(
        'Transfer-Encoding: "chunked"', "Content-Length: 2", body=b"{}", more=_whole(good)
    ),
    "chunked behind a bare CR": lambda good: _posted(
        "X-A: b\rTransfer-Encoding: chunked", "Content-Length: 2", body=LAST, more=_whole(good)
    ),
    "a NUL in the header's name": lambda good: _posted(
        "Transfer\0-Encoding: chunked", "Content-Length: 2", body=LAST, more=_whole(good)
    ),
    "chunks that end in LF": lambda good: _posted(CHUNKED, body=b"2\n{}\n0\n\n", more=_whole(good)),
    "LF in a chunk's extension": lambda good: _posted(CHUNKED, body=b"2;a\nb\r\n{}\r\n" + LAST, more=_whole(good)),
    "CR in a chunk's extension": lambda good: _posted(CHUNKED, body=b"2;a\rb\r\n{}\r\n" + LAST, more=_whole(good)),
    "a negative chunk": lambda good: _posted(CHUNKED, body=b"-2\r\n{}\r\n" + LAST, more=_whole(good)),
    "a chunk size of 0x2": lambda good: _posted(CHUNKED, body=b"0x2\r\n{}\r\n" + LAST, more=_whole(good)),
    "a chunk size with a blank before it": lambda good: _posted(
        CHUNKED, body=b" 2\r\n{}\r\n" + LAST, more=_whole(good)
    ),
    "a chunk longer than it says": lambda good: _posted(CHUNKED, body=b"2\r\n{}X\r\n" + LAST, more=_whole(good)),
    "a chunk without its line break": lambda good: _posted(CHUNKED, body=b"2\r\n{}" + LAST, more=_whole(good)),
    "Content-Length with blanks inside": lambda good: _posted("Content-Length: 2 2", body=b"{}", more=_whole(good)),
    "Content-Length without a value": lambda good: _posted("Content-Length: ", body=b"{}", more=_whole(good)),
    "Content-Length in full-width digits": lambda good: _posted(
        "Content-Length: \xef\xbc\x92", body=b"{}", more=_whole(good)
    ),
    "a first header that begins with a blank": lambda good: (
        b"GET /healthz HTTP/1.1\r\n Host: 127.0.0.1\r\n\r\n" + _whole(good)
    ),
    "line feeds alone": lambda good: b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n" + _whole(good),
    "carriage returns alone": lambda good: b"GET /healthz HTTP/1.1\rHost: 127.0.0.1\r\r" + _whole(good),
    "HTTP/1.2": lambda good: b"GET /healthz HTTP/1.2\r\nHost: 127.0.0.1\r\n\r\n" + _whole(good),
    "hidden in the body of a GET": _hidden("GET", "/healthz"),
    "hidden in the body of a forged callback": _hidden("POST", "/callbacks/forged"),
    "hidden in the body of a request that is refused": _hidden("POST", "/v1/tasks"),
    "hidden in the body of a wrong address": _hidden("POST", "/nowhere"),
    "behind a request that closes": lambda good: request("GET", "/healthz", CLOSE) + _whole(good),
}


async def _blurred(home: Path, write: Write) -> str:
    """Hide a good request where a careful reader sees none: it is not carried out, and the next ones are served."""
    async with ground(home) as g:
        found = statuses(await exchange(g.port, write(json.dumps(g.asking()).encode()), seconds=2))
        hold(202 not in found, f"answered {found}")
        hold(not (await g.http.get("/v1/tasks")).json()["data"], "the hidden request was carried out")
        hold((await g.http.get("/healthz")).status_code == 200, "the service does not answer any more")
        return f"answered {found}, nothing done"


def _blur(name: str, write: Write) -> None:
    async def play(home: Path) -> str:
        return await _blurred(home, write)

    add("smuggling", name, play)


for _name, _write in BLURRED.items():
    _blur(_name, _write)


@attempt("smuggling", "a key, a Host and a content type in the trailers")
async def trailers(home: Path) -> str:
    """Send headers behind the body, where no proxy looks: they count for nothing."""
    async with ground(home) as g:
        good = json.dumps(g.asking()).encode()
        chunk = f"{len(good):x}\r\n".encode() + good + b"\r\n0\r\n"
        late = chunk + f"{AUTH}\r\nHost: evil.example.org\r\nX-Request-ID: abc\r\n\r\n".encode()
        received = await exchange(g.port, request("POST", "/v1/tasks", JSON, CHUNKED, CLOSE, body=late), seconds=15)
        hold(statuses(received) == [401], f"answered {statuses(received)}")
        untyped = request("POST", "/v1/tasks", AUTH, CHUNKED, CLOSE, body=chunk + JSON.encode() + b"\r\n\r\n")
        second = statuses(await exchange(g.port, untyped, seconds=15))
        hold(second == [415], f"answered {second}")
        hold(not (await g.http.get("/v1/tasks")).json()["data"], "a task was made")
        return "401 and 415: they are not read"


@attempt("pipelining", "two clients' requests on one connection")
async def mixed(home: Path) -> str:
    """Send alice's and bob's requests in turn: each is answered in order, and as who sent it."""
    async with ground(home) as g:
        ids = {key: (await g.submit(key))["id"] for key in (ALICE, BOB)}
        asked = [(reader, owner) for reader in (ALICE, BOB) for owner in (ALICE, BOB)] * 25
        raw = b"".join(_read(ids[owner], reader) for reader, owner in asked)
        received = await exchange(g.port, raw + request("GET", "/healthz", CLOSE), seconds=20)
        expected = [200 if reader == owner else 404 for reader, owner in asked]
        hold(statuses(received) == [*expected, 200], "an answer is out of its turn")
        return f"{len(asked)} answers, each its sender's"


def _read(task_id: str, key: str) -> bytes:
    return request("GET", f"/v1/tasks/{task_id}", f"Authorization: Bearer {key}")


@attempt("pipelining", "ten thousand requests without reading an answer")
async def unread(home: Path) -> str:
    """Ask on and on without listening: others are served, and nothing piles up."""
    async with ground(home) as g:
        with peak() as memory:
            await exchange(g.port, *([request("GET", "/healthz") * 1000] * 10), seconds=0.0)
            hold((await g.http.get("/v1/tasks")).status_code == 200, "others are not served")
        hold(memory[0] < 32 * 1024 * 1024, f"{memory[0] // 1024} KB were taken")
        return f"others are served; grew by {memory[0] // 1024} KB"


@attempt("pipelining", "fifty submissions with one idempotency key")
async def one_key(home: Path) -> str:
    """Send the same submission fifty times without waiting: one task comes of it."""
    async with ground(home) as g:
        good = json.dumps(g.asking()).encode()
        one = _posted(f"Content-Length: {len(good)}", "Idempotency-Key: k1", body=good)
        received = await exchange(g.port, one * 50 + request("GET", "/healthz", CLOSE), seconds=20)
        found = statuses(received)
        hold(found == [202] + [200] * 50, f"answered {found}")
        await _settle(g)
        hold(len(g.upstream.asked) <= 1, f"{len(g.upstream.asked)} submissions were paid for")
        return "one task, and fifty times the same answer"


async def _settle(g: Ground) -> None:
    rows = (await g.http.get("/v1/tasks")).json()["data"]
    hold(len(rows) == 1, f"{len(rows)} tasks were made")
    await g.until(rows[0]["id"], lambda now: now["status"] == "in_progress")
