"""Hostile paths, headers and texts."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.security.catalogue import attempt, check_all, require
from tests.security.environment import ALICE, ServiceUnderTest, service_under_test
from tests.security.raw import exchange, request, statuses

PROBLEM = "application/problem+json"

PATHS = (
    "//v1/tasks", "/v1//tasks", "/v1/tasks/", "/./v1/tasks", "/x/../v1/tasks", "/callbacks/../v1/tasks",
    "/callbacks/%2e%2e/v1/tasks", "/callbacks/..%2fv1%2ftasks", "/healthz/../v1/tasks", "/healthz%00/v1/tasks",
    "/healthz;/v1/tasks", "/%76%31/tasks", "/v1%2ftasks", "/V1/TASKS", "/v1/tasks%00", "/v1/tasks%20", "/v1\\tasks",
    "/v1/tasks/..%2f..%2fetc%2fpasswd", "/v1/tasks/%ff", "/v1/tasks/a%0d%0aX-Evil:1", "/v1/tasks?%00=1",
    "http://evil.example.org/v1/tasks", "*", "/..", "/.env", "/boomerang.db", "/metrics", "/metrics/", "/healthz/x",
)  # fmt: skip


async def _path(path: str, g: ServiceUnderTest) -> str:
    received = await exchange(g.port, request("GET", path, "Connection: close"), seconds=2)
    found = statuses(received)
    require(len(found) == 1 and found[0] in {400, 401, 404}, f"answered {found}")
    require(b"x-evil" not in received.lower().partition(b"\r\n\r\n")[0], "a header was injected")
    return f"{found[0]} without a key"


check_all("path", {path: partial(_path, path) for path in PATHS}, service_under_test)


INJECTED: Mapping[str, str] = {
    "X-Request-ID with CR LF": "X-Request-ID: a\r\nX-Evil: 1",
    "X-Request-ID with a bare CR": "X-Request-ID: a\rX-Evil: 1",
    "X-Request-ID with an escape": "X-Request-ID: \x1b[2J",
    "X-Request-ID of 10,000 characters": "X-Request-ID: " + "a" * 10_000,
    "Idempotency-Key with a tab": "Idempotency-Key: a\tb",
    "Idempotency-Key in Latin-1": "Idempotency-Key: \xe4\xf6",
    "Idempotency-Key of 10,000 characters": "Idempotency-Key: " + "a" * 10_000,
    "Prefer: wait=99999999": "Prefer: wait=99999999",
    "X-HTTP-Method-Override": "X-HTTP-Method-Override: DELETE",
}


async def _inject(line: str, g: ServiceUnderTest) -> str:
    raw = request("GET", "/v1/tasks", f"Authorization: Bearer {ALICE}", line, "Connection: close")
    received = (await exchange(g.port, raw, seconds=2)).partition(b"\r\n\r\n")[0]
    require(
        b"x-evil" not in received.lower() and b"\x1b" not in received and len(received) < 2000,
        "it was returned in a header",
    )
    require("x-evil" not in g.logged.getvalue().lower(), "it is in the log")
    return f"{statuses(received)}, not echoed"


check_all("header", {name: partial(_inject, line) for name, line in INJECTED.items()}, service_under_test)


@attempt("XSS", "markup in prompt, metadata, query and upstream errors")
async def markup(home: Path) -> str:
    """Send a script in every text: each response is JSON that no browser renders."""
    script = "<script>alert(1)</script>"
    async with service_under_test(home) as g:
        task = await g.submit(**g.task_body(prompt=script, payload=script), metadata={script: script})
        paths = ("", "/events", f"?{script}=1")
        responses = [await g.http.get(f"/v1/tasks/{task['id']}{each}") for each in paths]
        responses += [await g.http.get(f"/v1/{script}"), await g.http.get(f"/v1/tasks?status={script}")]
        for response in responses:
            kind, sniff = response.headers["content-type"], response.headers["x-content-type-options"]
            require(kind in {"application/json", PROBLEM} and sniff == "nosniff", f"{kind}, {sniff}")
            require("default-src 'none'" in response.headers["content-security-policy"], "no policy")
        return f"{len(responses)} responses, all JSON with nosniff and a policy"


@attempt("upgrade", "WebSocket and HTTP/2 upgrades, PRI, CONNECT and TRACE")
async def upgrades(home: Path) -> str:
    """Request another protocol: none is supported, and none bypasses authentication."""
    ws = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
          "Sec-WebSocket-Version: 13"]  # fmt: skip
    h2c = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
    async with service_under_test(home) as g:
        found = []
        for raw in (
            request("GET", "/v1/tasks", *ws),
            request("GET", "/v1/tasks", *h2c),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            request("CONNECT", "169.254.169.254:80"),
            request("TRACE", "/v1/tasks", "X-Secret: s3cr3t"),
        ):
            received = await exchange(g.port, raw, seconds=1)
            require(b"s3cr3t" not in received, "TRACE echoes")
            found += statuses(received)
        require(set(found) <= {400, 401, 404, 405}, f"answered {found}")
        require((await g.http.get("/healthz")).status_code == 200, "the service does not respond any more")
        return f"answered {found}"
