"""JSON that breaks parsers, and values that break storage or responses."""

import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from tests.security.catalogue import add, attempt, check_all, require
from tests.security.environment import MODEL, ServiceUnderTest, service_under_test

JSON = {"Content-Type": "application/json"}
GOOD = json.dumps({"model": MODEL, "params": {"prompt": "a cat", "images": ["https://example.org/a.png"]}})
MB = 1024 * 1024


def _with(metadata: str) -> bytes:
    return (GOOD[:-1] + f', "metadata": {metadata}}}').encode()


def _prompt(text: str) -> bytes:
    return GOOD.replace("a cat", text).encode()


REFUSED: dict[str, bytes] = {
    "a hundred thousand brackets": b"[" * 100_000,
    "a hundred thousand nested objects": b'{"a":' * 100_000,
    "metadata nested 100 deep": _with('{"a": ' + "[" * 100 + "]" * 100 + "}"),
    "8 million empty lists": _with('{"a": [' + "[]," * 7_000_000 + "[]]}"),
    "5 million numbers": _with('{"a": [' + "1," * 5_000_000 + "1]}"),
    "a million keys": _with("{" + ",".join(f'"{n}":0' for n in range(1_000_000)) + "}"),
    "metadata of 8 MB": _with(json.dumps({"a": "x" * 8 * MB})),
    "a text of escaped quotes without end": GOOD[:-2].encode() + b', "payload": "' + b'\\",' * 4_000_000,
    "the same key twice": GOOD.replace('"prompt"', '"prompt": "a dog", "prompt"').encode(),
    "the same key twice, escaped": GOOD.replace('"prompt"', '"prom\\u0070t": "a dog", "prompt"').encode(),
    "NaN": _with("NaN"),
    "Infinity": _with('{"a": -Infinity}'),
    "1e999": _with('{"a": 1e999}'),
    "an integer of 5,000 digits": _with('{"a": ' + "9" * 5000 + "}"),
    "an integer of a million digits": _with('{"a": ' + "9" * 1_000_000 + "}"),
    "a lone surrogate": _prompt("\\ud800"),
    "a lone surrogate as a key": _with('{"\\udfff": 1}'),
    "a surrogate in raw UTF-8": _prompt("a").replace(b'"a"', b'"\xed\xa0\x80"'),
    "overlong UTF-8": _prompt("a").replace(b'"a"', b'"\xc0\xaf"'),
    "NUL, escaped": _prompt("a\\u0000b"),
    "NUL as a key": _with('{"a\\u0000": 1}'),
    "NUL, raw": _prompt("a\x00b"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-32": GOOD.encode("utf-32"),
    "a comment": b"/* */" + GOOD.encode(),
    "single quotes": GOOD.replace('"', "'").encode(),
    "two documents": GOOD.encode() * 2,
    "a list": b"[]",
    "null": b"null",
    "nothing": b"",
    "duration true": GOOD.replace('"prompt"', '"duration": true, "prompt"').encode(),
    "duration 5.0": GOOD.replace('"prompt"', '"duration": 5.0, "prompt"').encode(),
    "seed past 64 bits": GOOD.replace('"prompt"', '"seed": 99999999999999999999, "prompt"').encode(),
    "model is a list": GOOD.replace(f'"{MODEL}"', "[]").encode(),
    "__proto__ as a parameter": GOOD.replace('"prompt"', '"__proto__": {"a": 1}, "prompt"').encode(),
    "payload past its limit": GOOD.replace('"prompt"', f'"payload": "{"x" * (MB + 1)}", "prompt"').encode(),
}


async def _refused(body: bytes, g: ServiceUnderTest) -> str:
    """Post an invalid body: 4xx, nothing stored, and little processor time."""
    began = time.process_time()
    response = await g.http.post("/v1/tasks", content=body, headers=JSON)
    cpu_seconds = time.process_time() - began
    require(response.status_code in {400, 413, 415, 422}, f"answered {response.status_code}: {response.text[:100]}")
    require(response.headers["content-type"] == "application/problem+json", "no problem response")
    require(len(response.content) < 64 * 1024, f"a response of {len(response.content)} bytes")
    require(cpu_seconds < 5, f"{cpu_seconds:.1f} s of processor time")
    require(not (await g.http.get("/v1/tasks")).json()["data"], "a task was created")
    return f"{response.status_code}: {_reason(response.json())}"


def _reason(problem: dict[str, object]) -> str:
    faults = problem.get("errors")
    first = faults[0]["msg"] if isinstance(faults, list) and faults else problem.get("detail")
    return str(first)[:90]


check_all("json", {name: partial(_refused, body) for name, body in REFUSED.items()}, service_under_test)


UNREADABLE: dict[str, bytes] = {
    "a hundred thousand brackets": b"[" * 100_000,
    "half a million empty lists": b'{"id":"up1","status":"failed","x":[' + b"[]," * 500_000 + b"[]]}",
    "a status of unknown meaning": b'{"id":"up1","status":"glorious"}',
    "a status that is a list": b'{"id":"up1","status":["failed"]}',
}
"""Bodies that report nothing, with a valid token."""

FAILURES: dict[str, bytes] = {
    "the same key twice": b'{"id":"up1","status":"in_progress","status":"failed"}',
    "NaN": b'{"id":"up1","status":"failed","progress":NaN}',
    "a lone surrogate": b'{"id":"up1","status":"failed","error":"\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf" + b'{"id":"up1","status":"failed"}',
    "UTF-16": '{"id":"up1","status":"failed"}'.encode("utf-16"),
}
"""Bodies with an oddity, which report a failure."""

WITHOUT_RESULT: dict[str, bytes] = {
    "an output that is a string": b'{"id":"up1","status":"completed","output":"x"}',
    "an address that is a script": b'{"id":"up1","status":"completed","output":[{"content":[{"url":"javascript:x"}]}]}',
    "an address that is a file": b'{"id":"up1","status":"completed","output":[{"content":[{"url":"file:///etc/passwd"}]}]}',
    "an address with a line break": b'{"id":"up1","status":"completed","output":[{"content":[{"url":"http://a\\nb/"}]}]}',
}
"""Bodies that report an end with an address that is none."""


async def _unread(home: Path, body: bytes) -> str:
    """Send a valid token with an unreadable body: 400, the task is unchanged, and the provider is polled."""
    async with service_under_test(home, CONFIRM="never") as g:
        task = await g.submit()
        response = await g.call_back(g.token(), body)
        require(response.status_code == 400, f"answered {response.status_code}")
        await g.wait_until(task["id"], lambda _: bool(g.upstream.polls))
        require((await g.task(task["id"]))["status"] == "in_progress", "it was recorded")
        return "400, the task is unchanged, the provider was polled"


async def _failure(home: Path, body: bytes) -> str:
    """Send a valid token with an odd body: what can be read is recorded, and shown as valid JSON."""
    async with service_under_test(home, CONFIRM="never") as g:
        task = await g.submit()
        require((status := (await g.call_back(g.token(), body)).status_code) == 204, f"answered {status}")
        await g.wait_until(task["id"], lambda now: now["status"] == "failed")
        return "204, recorded as a failure"


async def _without_result(home: Path, body: bytes) -> str:
    """Send a valid token with a result that has no usable address: no address is shown, and the provider is polled."""
    async with service_under_test(home, CONFIRM="never") as g:
        task = await g.submit()
        require((status := (await g.call_back(g.token(), body)).status_code) == 204, f"answered {status}")
        await g.wait_until(task["id"], lambda _: bool(g.upstream.polls))
        now = await g.task(task["id"])
        require(not now["output"] and now["status"] == "in_progress", f"recorded as {now['status']}: {now['output']}")
        return "204, no address is shown, the provider was polled"


def _call(name: str, body: bytes, send: Callable[[Path, bytes], Awaitable[str]]) -> None:
    async def run(home: Path) -> str:
        return await send(home, body)

    add("callback body", name, run)


for _bodies, _send in ((UNREADABLE, _unread), (FAILURES, _failure), (WITHOUT_RESULT, _without_result)):
    for _name, _body in _bodies.items():
        _call(_name, _body, _send)


@attempt("json", "twenty thousand unknown query parameters")
async def many_parameters(home: Path) -> str:
    """Make the service compute suggestions for many unknown parameters."""
    async with service_under_test(home) as g:
        began = time.process_time()
        response = await g.http.get("/v1/tasks?" + "&".join(f"statu{n:x}=" for n in range(5500)))
        cpu_seconds = time.process_time() - began
        require(response.status_code == 422, f"answered {response.status_code}")
        require(
            cpu_seconds < 0.5 and len(response.content) < 64 * 1024,
            f"{cpu_seconds:.1f} s, {len(response.content)} bytes of response",
        )
        return f"422 in {cpu_seconds:.2f} s, {len(response.content)} bytes"


@attempt("json", "sixteen notify entries of three thousand unknown fields each")
async def many_fields(home: Path) -> str:
    """Make the service compute suggestions for many unknown fields."""
    async with service_under_test(home) as g:
        entry = {"handler": "webhook", "url": "https://example.org/"} | {f"secre{n:x}": 0 for n in range(1000)}
        began = time.process_time()
        response = await g.http.post("/v1/tasks", json=g.task_body() | {"notify": [entry] * 16})
        cpu_seconds = time.process_time() - began
        require(response.status_code == 422, f"answered {response.status_code}")
        require(
            cpu_seconds < 1 and len(response.content) < 128 * 1024,
            f"{cpu_seconds:.1f} s, {len(response.content)} bytes of response",
        )
        return f"422 in {cpu_seconds:.2f} s, {len(response.content)} bytes"
