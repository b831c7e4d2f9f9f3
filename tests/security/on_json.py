"""JSON that parsers choke on, and values that storage or answers choke on."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from tests.security.catalogue import add, attempt, hold
from tests.security.environment import MODEL, Ground, ground

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


async def _refused(home: Path, body: bytes) -> str:
    """Post a body that is no good request: 4xx, nothing stored, and not for the price of much time."""
    async with ground(home) as g:
        began = time.process_time()
        answer = await g.http.post("/v1/tasks", content=body, headers=JSON)
        spent = time.process_time() - began
        hold(answer.status_code in {400, 413, 415, 422}, f"answered {answer.status_code}: {answer.text[:100]}")
        hold(answer.headers["content-type"] == "application/problem+json", "no problem answer")
        hold(len(answer.content) < 64 * 1024, f"an answer of {len(answer.content)} bytes")
        hold(spent < 5, f"{spent:.1f} s of processor time")
        hold(not (await g.http.get("/v1/tasks")).json()["data"], "a task was made")
        return f"{answer.status_code}: {_said(answer.json())}"


def _said(problem: dict[str, object]) -> str:
    faults = problem.get("errors")
    first = faults[0]["msg"] if isinstance(faults, list) and faults else problem.get("detail")
    return str(first)[:90]


def _post(name: str, body: bytes) -> None:
    async def play(home: Path) -> str:
        return await _refused(home, body)

    add("json", name, play)


for _name, _body in REFUSED.items():
    _post(_name, _body)


CALLBACKS: dict[str, bytes] = {
    "a hundred thousand brackets": b"[" * 100_000,
    "half a million empty lists": b'{"id":"up1","status":"failed","x":[' + b"[]," * 500_000 + b"[]]}",
    "the same key twice": b'{"id":"up1","status":"in_progress","status":"failed"}',
    "NaN": b'{"id":"up1","status":"failed","progress":NaN}',
    "a lone surrogate": b'{"id":"up1","status":"failed","error":"\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf" + b'{"id":"up1","status":"failed"}',
    "UTF-16": '{"id":"up1","status":"failed"}'.encode("utf-16"),
    "an unknown status": b'{"id":"up1","status":"deleted"}',
    "a status that is a list": b'{"id":"up1","status":["failed"]}',
    "an output that is a string": b'{"id":"up1","status":"completed","output":"x"}',
    "an address that is a script": b'{"id":"up1","status":"completed","output":[{"content":[{"url":"javascript:x"}]}]}',
    "an address that is a file": b'{"id":"up1","status":"completed","output":[{"content":[{"url":"file:///etc/passwd"}]}]}',
    "an address with a line break": b'{"id":"up1","status":"completed","output":[{"content":[{"url":"http://a\\nb/"}]}]}',
}


async def _unread(home: Path, body: bytes) -> str:
    """Call back with a good token and a body that no shape fits: 400, the task as it was, and the upstream is asked."""
    async with ground(home, CONFIRM="never") as g:
        task = await g.submit()
        answer = await g.call_back(g.token(), body)
        hold(answer.status_code == 400, f"answered {answer.status_code}")
        await g.until(task["id"], lambda _: bool(g.upstream.polls))
        hold((await g.task(task["id"]))["status"] == "in_progress", "it was believed")
        return "400, the task is as it was, the upstream was asked"


def _call(name: str, body: bytes) -> None:
    async def play(home: Path) -> str:
        return await _unread(home, body)

    add("callback body", name, play)


for _name, _body in CALLBACKS.items():
    _call(_name, _body)


Ask = Callable[[Ground], str]


@attempt("json", "twenty thousand unknown query parameters")
async def many_parameters(home: Path) -> str:
    """Make the service guess what each of many misspelt parameters was meant to be."""
    async with ground(home) as g:
        began = time.process_time()
        answer = await g.http.get("/v1/tasks?" + "&".join(f"statu{n:x}=" for n in range(5500)))
        spent = time.process_time() - began
        hold(answer.status_code == 422, f"answered {answer.status_code}")
        hold(spent < 0.5 and len(answer.content) < 64 * 1024, f"{spent:.1f} s, {len(answer.content)} bytes of answer")
        return f"422 in {spent:.2f} s, {len(answer.content)} bytes"


@attempt("json", "sixteen notify entries of three thousand unknown fields each")
async def many_fields(home: Path) -> str:
    """Make the service guess what each of many misspelt fields was meant to be."""
    async with ground(home) as g:
        entry = {"handler": "webhook", "url": "https://example.org/"} | {f"secre{n:x}": 0 for n in range(1000)}
        began = time.process_time()
        answer = await g.http.post("/v1/tasks", json=g.asking() | {"notify": [entry] * 16})
        spent = time.process_time() - began
        hold(answer.status_code == 422, f"answered {answer.status_code}")
        hold(spent < 1 and len(answer.content) < 128 * 1024, f"{spent:.1f} s, {len(answer.content)} bytes of answer")
        return f"422 in {spent:.2f} s, {len(answer.content)} bytes"
