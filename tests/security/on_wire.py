"""Pipelined requests, and ambiguous chunks, trailers and lines."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.security.catalogue import attempt, check_all, peak, require
from tests.security.environment import ALICE, BOB, ServiceUnderTest, service_under_test
from tests.security.raw import exchange, request, statuses

AUTH = f"Authorization: Bearer {ALICE}"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
CLOSE = "Connection: close"
LAST = b"0\r\n\r\n"
Write = Callable[[bytes], bytes]
"""Returns the bytes to send for the body of a valid request: a first request with the valid one hidden in it."""


def _posted(*lines: str, body: bytes, more: bytes = b"") -> bytes:
    return request("POST", "/v1/tasks", AUTH, JSON, *lines, body=body) + more


def _valid_request(valid_body: bytes) -> bytes:
    """Return the request that must not be executed: it creates a task."""
    return _posted(f"Content-Length: {len(valid_body)}", CLOSE, body=valid_body)


def _hidden(method: str, path: str, *lines: str) -> Write:
    """Hide the request in the body of another."""

    def write(valid_body: bytes) -> bytes:
        inner = _valid_request(valid_body)
        return request(method, path, *lines, f"Content-Length: {len(inner)}", CLOSE, body=inner)

    return write


AMBIGUOUS: dict[str, Write] = {
    "chunked twice": lambda valid_body: _posted(CHUNKED, CHUNKED, body=LAST, more=_valid_request(valid_body)),
    "chunked, chunked": lambda valid_body: _posted(
        "Transfer-Encoding: chunked, chunked", body=LAST, more=_valid_request(valid_body)
    ),
    "chunked in HTTP/1.0": lambda valid_body: _posted(CHUNKED, body=LAST, more=_valid_request(valid_body)).replace(
        b"HTTP/1.1", b"HTTP/1.0", 1
    ),
    "identity": lambda valid_body: _posted(
        "Transfer-Encoding: identity", "Content-Length: 2", body=b"{}", more=_valid_request(valid_body)
    ),
    "a vertical tab before chunked": lambda valid_body: _posted(
        "Transfer-Encoding: \x0bchunked", "Content-Length: 2", body=b"{}", more=_valid_request(valid_body)
    ),
    "chunked in quotes": lambda valid_body: _posted(
        'Transfer-Encoding: "chunked"', "Content-Length: 2", body=b"{}", more=_valid_request(valid_body)
    ),
    "chunked behind a bare CR": lambda valid_body: _posted(
        "X-A: b\rTransfer-Encoding: chunked", "Content-Length: 2", body=LAST, more=_valid_request(valid_body)
    ),
    "a NUL in the header's name": lambda valid_body: _posted(
        "Transfer\0-Encoding: chunked", "Content-Length: 2", body=LAST, more=_valid_request(valid_body)
    ),
    "chunks that end in LF": lambda valid_body: _posted(CHUNKED, body=b"2\n{}\n0\n\n", more=_valid_request(valid_body)),
    "LF in a chunk's extension": lambda valid_body: _posted(
        CHUNKED, body=b"2;a\nb\r\n{}\r\n" + LAST, more=_valid_request(valid_body)
    ),
    "CR in a chunk's extension": lambda valid_body: _posted(
        CHUNKED, body=b"2;a\rb\r\n{}\r\n" + LAST, more=_valid_request(valid_body)
    ),
    "a negative chunk": lambda valid_body: _posted(
        CHUNKED, body=b"-2\r\n{}\r\n" + LAST, more=_valid_request(valid_body)
    ),
    "a chunk size of 0x2": lambda valid_body: _posted(
        CHUNKED, body=b"0x2\r\n{}\r\n" + LAST, more=_valid_request(valid_body)
    ),
    "a chunk size with a blank before it": lambda valid_body: _posted(
        CHUNKED, body=b" 2\r\n{}\r\n" + LAST, more=_valid_request(valid_body)
    ),
    "a chunk longer than declared": lambda valid_body: _posted(
        CHUNKED, body=b"2\r\n{}X\r\n" + LAST, more=_valid_request(valid_body)
    ),
    "a chunk without its line break": lambda valid_body: _posted(
        CHUNKED, body=b"2\r\n{}" + LAST, more=_valid_request(valid_body)
    ),
    "Content-Length with blanks inside": lambda valid_body: _posted(
        "Content-Length: 2 2", body=b"{}", more=_valid_request(valid_body)
    ),
    "Content-Length without a value": lambda valid_body: _posted(
        "Content-Length: ", body=b"{}", more=_valid_request(valid_body)
    ),
    "Content-Length in full-width digits": lambda valid_body: _posted(
        "Content-Length: \xef\xbc\x92", body=b"{}", more=_valid_request(valid_body)
    ),
    "a first header that begins with a blank": lambda valid_body: (
        b"GET /healthz HTTP/1.1\r\n Host: 127.0.0.1\r\n\r\n" + _valid_request(valid_body)
    ),
    "line feeds alone": lambda valid_body: b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n" + _valid_request(valid_body),
    "carriage returns alone": lambda valid_body: (
        b"GET /healthz HTTP/1.1\rHost: 127.0.0.1\r\r" + _valid_request(valid_body)
    ),
    "HTTP/1.2": lambda valid_body: b"GET /healthz HTTP/1.2\r\nHost: 127.0.0.1\r\n\r\n" + _valid_request(valid_body),
    "hidden in the body of a GET": _hidden("GET", "/healthz"),
    "hidden in the body of a forged callback": _hidden("POST", "/callbacks/forged"),
    "hidden in the body of a request that is refused": _hidden("POST", "/v1/tasks"),
    "hidden in the body of a wrong address": _hidden("POST", "/nowhere"),
    "behind a request that closes": lambda valid_body: request("GET", "/healthz", CLOSE) + _valid_request(valid_body),
}


async def _ambiguous(write: Write, g: ServiceUnderTest) -> str:
    """Hide a valid request in another one: it is not executed, and the next requests are served."""
    found = statuses(await exchange(g.port, write(json.dumps(g.task_body()).encode()), seconds=2))
    require(202 not in found, f"answered {found}")
    require(not (await g.http.get("/v1/tasks")).json()["data"], "the hidden request was executed")
    require((await g.http.get("/healthz")).status_code == 200, "the service does not respond any more")
    return f"answered {found}, nothing done"


check_all("smuggling", {name: partial(_ambiguous, write) for name, write in AMBIGUOUS.items()}, service_under_test)


@attempt("smuggling", "a key, a Host and a content type in the trailers")
async def trailers(home: Path) -> str:
    """Send headers after the body, where no proxy checks them: they are ignored."""
    async with service_under_test(home) as g:
        valid_body = json.dumps(g.task_body()).encode()
        chunk = f"{len(valid_body):x}\r\n".encode() + valid_body + b"\r\n0\r\n"
        trailer = chunk + f"{AUTH}\r\nHost: evil.example.org\r\nX-Request-ID: abc\r\n\r\n".encode()
        received = await exchange(g.port, request("POST", "/v1/tasks", JSON, CHUNKED, CLOSE, body=trailer), seconds=15)
        require(statuses(received) == [401], f"answered {statuses(received)}")
        untyped = request("POST", "/v1/tasks", AUTH, CHUNKED, CLOSE, body=chunk + JSON.encode() + b"\r\n\r\n")
        second = statuses(await exchange(g.port, untyped, seconds=15))
        require(second == [415], f"answered {second}")
        require(not (await g.http.get("/v1/tasks")).json()["data"], "a task was created")
        return "401 and 415: they are ignored"


@attempt("pipelining", "two clients' requests on one connection")
async def mixed_clients(home: Path) -> str:
    """Send requests of alice and bob alternately: the responses are in order, and each is for its sender."""
    async with service_under_test(home) as g:
        ids = {key: (await g.submit(key))["id"] for key in (ALICE, BOB)}
        requests = [(reader, owner) for reader in (ALICE, BOB) for owner in (ALICE, BOB)] * 25
        raw = b"".join(_read(ids[owner], reader) for reader, owner in requests)
        received = await exchange(g.port, raw + request("GET", "/healthz", CLOSE), seconds=20)
        expected = [200 if reader == owner else 404 for reader, owner in requests]
        require(statuses(received) == [*expected, 200], "a response is out of order")
        return f"{len(requests)} responses, each for its sender"


def _read(task_id: str, key: str) -> bytes:
    return request("GET", f"/v1/tasks/{task_id}", f"Authorization: Bearer {key}")


@attempt("pipelining", "ten thousand requests without reading a response")
async def unread_responses(home: Path) -> str:
    """Send requests without reading responses: others are served, and memory does not grow."""
    async with service_under_test(home) as g:
        with peak() as memory:
            await exchange(g.port, *([request("GET", "/healthz") * 1000] * 10), seconds=0.0)
            require((await g.http.get("/v1/tasks")).status_code == 200, "others are not served")
        require(memory[0] < 32 * 1024 * 1024, f"{memory[0] // 1024} KB were taken")
        return f"others are served; grew by {memory[0] // 1024} KB"


@attempt("pipelining", "fifty submissions with one idempotency key")
async def one_key(home: Path) -> str:
    """Send the same submission fifty times without waiting: it creates one task."""
    async with service_under_test(home) as g:
        valid_body = json.dumps(g.task_body()).encode()
        one = _posted(f"Content-Length: {len(valid_body)}", "Idempotency-Key: k1", body=valid_body)
        received = await exchange(g.port, one * 50 + request("GET", "/healthz", CLOSE), seconds=20)
        found = statuses(received)
        require(found == [202] + [200] * 50, f"answered {found}")
        await _settle(g)
        require(len(g.upstream.submissions) <= 1, f"{len(g.upstream.submissions)} submissions reached the provider")
        return "one task, and fifty equal responses"


async def _settle(g: ServiceUnderTest) -> None:
    rows = (await g.http.get("/v1/tasks")).json()["data"]
    require(len(rows) == 1, f"{len(rows)} tasks were created")
    await g.wait_until(rows[0]["id"], lambda now: now["status"] == "in_progress")
