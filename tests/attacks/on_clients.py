"""Other people's things, other people's browsers, and requests that pretend to come from elsewhere."""

from collections.abc import Mapping
from pathlib import Path

from starlette.responses import JSONResponse

from tests.attacks.attempts import add, attempt, hold
from tests.attacks.ground import ALICE, BOB, ROOT, Ground, bearer, completed, ground
from tests.attacks.raw import exchange, request, statuses

PROBLEM = "application/problem+json"


async def _reached(g: Ground, task: str, delivery: str) -> dict[str, int]:
    """Return how bob is answered on everything that belongs to alice."""
    found = {}
    for method, path in (
        ("GET", f"/v1/tasks/{task}"),
        ("GET", f"/v1/tasks/{task}?wait=1"),
        ("GET", f"/v1/tasks/{task}/events"),
        ("POST", f"/v1/tasks/{task}/cancel"),
        ("POST", f"/v1/tasks/{task}/resubmit"),
        ("GET", f"/v1/deliveries/{delivery}"),
        ("POST", f"/v1/deliveries/{delivery}/replay"),
        ("POST", "/v1/reconcile"),
    ):
        answer = await g.http.request(method, path, headers=bearer(BOB))
        found[f"{method} {path.replace(task, 'ID').replace(delivery, 'ID')}"] = answer.status_code
        hold("cat" not in answer.text, f"{path} tells alice's prompt")
    return found


@attempt("cross-client", "read, cancel, resubmit and replay by id")
async def by_id(home: Path) -> str:
    """Go through every address with the id of another client's task and delivery."""
    async with ground(home) as g:
        task = await g.submit()
        await g.call_back(g.token(), b"x")
        delivery = (await g.http.get("/v1/deliveries")).json()["data"][0]["id"]
        found = await _reached(g, task["id"], delivery)
        hold(set(found.values()) == {404, 403} and found["POST /v1/reconcile"] == 403, str(found))
        hold((await g.task(task["id"]))["status"] == "in_progress", "the task changed")
        return "404 on every one, 403 on the admin's"


@attempt("cross-client", "lists, filters and cursors")
async def by_list(home: Path) -> str:
    """List with another client's cursor and filters: never a row of theirs."""
    async with ground(home) as g:
        for _ in range(3):
            await g.submit()
        own = (await g.submit(BOB))["id"]
        cursors = [(await g.http.get(f"/v1/{kind}?limit=1")).json()["next_cursor"] for kind in ("tasks", "deliveries")]
        seen: set[str] = set()
        for query in ("", f"?cursor={cursors[0]}", "?status=in_progress", "?limit=200"):
            rows = (await g.http.get(f"/v1/tasks{query}", headers=bearer(BOB))).json()["data"]
            seen |= {row["id"] for row in rows}
        for query in ("", f"?cursor={cursors[1]}", "?handler=log", "?limit=200"):
            rows = (await g.http.get(f"/v1/deliveries{query}", headers=bearer(BOB))).json()["data"]
            seen |= {row["task_id"] for row in rows}
        hold(seen <= {own}, f"bob saw {len(seen - {own})} of alice's")
        return "only his own rows"


@attempt("cross-client", "another client's idempotency key")
async def same_key(home: Path) -> str:
    """Use alice's key as bob: he gets a task of his own, not hers."""
    async with ground(home) as g:
        found = [
            (await g.http.post("/v1/tasks", json=g.asking(), headers={**bearer(key), "Idempotency-Key": "k1"})).json()
            for key in (ALICE, BOB)
        ]
        hold(found[0]["id"] != found[1]["id"], "bob got alice's task")
        return "two tasks"


@attempt("cross-client", "the idempotency key of our own resubmission")
async def resubmission_key(home: Path) -> str:
    """Take the key under which a resubmission is stored before it is made: the resubmission must still be made."""
    async with ground(home) as g:
        task = await g.submit()
        await g.http.post(f"/v1/tasks/{task['id']}/cancel")
        g.upstream.polled = lambda _: httpx_json(completed("up1") | {"status": "failed"})
        await g.call_back(g.token(), completed("up1"))
        await g.until(task["id"], lambda now: now["status"] == "failed")
        for key in (f"boomerang/resubmit/{task['id']}", f"resubmit/{task['id']}"):
            taken = await g.http.post("/v1/tasks", json=g.asking(), headers={"Idempotency-Key": key})
            hold(taken.status_code == 202, f"answered {taken.status_code}")
        raw = request(
            "POST", "/v1/tasks", f"Authorization: Bearer {ALICE}", f"Idempotency-Key: \x1fresubmit/{task['id']}"
        )
        hold(statuses(await exchange(g.port, raw, seconds=1))[0] in {400, 415}, "the control character passes")
        again = await g.http.post(f"/v1/tasks/{task['id']}/resubmit")
        hold(again.status_code == 202 and again.json()["resubmission_of"] == task["id"], f"{again.status_code}")
        return "the resubmission is made all the same"


def httpx_json(body: object) -> JSONResponse:
    """Return an answer of the puppet."""
    return JSONResponse(body)


# ── who calls ────────────────────────────────────────────────────────────────

LOCAL: dict[str, tuple[str, list[str]]] = {
    "Host of a rebound name": ("evil.example.org", []),
    "Host with our port": ("evil.example.org:8080", []),
    "Host 127.0.0.1.evil.example.org": ("127.0.0.1.evil.example.org", []),
    "Host with a user": ("127.0.0.1@evil.example.org", []),
    "Host localhost.evil.example.org": ("localhost.evil.example.org", []),
    "an empty Host": ("", []),
    "two Hosts": ("127.0.0.1", ["Host: evil.example.org"]),
    "X-Forwarded-For": ("127.0.0.1", ["X-Forwarded-For: 203.0.113.9"]),
    "X-Forwarded-For of loopback": ("127.0.0.1", ["X-Forwarded-For: 127.0.0.1"]),
    "Forwarded": ("127.0.0.1", ["Forwarded: for=203.0.113.9"]),
    "X-Real-IP": ("127.0.0.1", ["X-Real-IP: 203.0.113.9"]),
    "X-Forwarded-Proto alone": ("127.0.0.1", ["X-Forwarded-Proto: https"]),
    "Via": ("127.0.0.1", ["Via: 1.1 tunnel"]),
    "CF-Connecting-IP": ("127.0.0.1", ["CF-Connecting-IP: 203.0.113.9"]),
    "True-Client-IP": ("127.0.0.1", ["True-Client-IP: 203.0.113.9"]),
    "Origin of another site": ("127.0.0.1", ["Origin: https://evil.example.org"]),
    "Origin null": ("127.0.0.1", ["Origin: null"]),
    "Origin of another port": ("127.0.0.1", ["Origin: http://127.0.0.1:1"]),
    "two Origins": ("127.0.0.1", ["Origin: http://127.0.0.1", "Origin: https://evil.example.org"]),
    "Sec-Fetch-Site: cross-site": ("127.0.0.1", ["Sec-Fetch-Site: cross-site"]),
    "Sec-Fetch-Site: same-site": ("127.0.0.1", ["Sec-Fetch-Site: same-site"]),
}


async def _from_elsewhere(home: Path, host: str, lines: list[str]) -> str:
    """Ask a service without keys as if from another machine or another site: nothing is shown, nothing is done."""
    async with ground(home, API_KEYS="") as g:
        found = []
        for method, path in (
            ("GET", "/v1/tasks"),
            ("POST", "/v1/tasks"),
            ("POST", "/v1/reconcile"),
            ("GET", "/metrics"),
        ):
            raw = request(method, path, *lines, "Content-Length: 0", "Connection: close", host=host)
            found += statuses(await exchange(g.port, raw, seconds=2))
        hold(set(found) <= {400, 403} and len(found) == 4, f"answered {found}")
        return f"answered {sorted(set(found))}"


def _elsewhere(name: str, host: str, lines: list[str]) -> None:
    async def play(home: Path) -> str:
        return await _from_elsewhere(home, host, lines)

    add("no keys", name, play)


for _name, (_host, _lines) in LOCAL.items():
    _elsewhere(_name, _host, _lines)


@attempt("CSRF", "a form's POST of text/plain with JSON in it")
async def simple_post(home: Path) -> str:
    """Send what a page of another site can send without asking: no task may come of it."""
    async with ground(home, API_KEYS="") as g:
        found = []
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            headers = {"Content-Type": kind, "Origin": "null"} if kind else {}
            found.append((await g.http.post("/v1/tasks", content=b"{}", headers=headers)).status_code)
        asked = await g.http.request("OPTIONS", "/v1/tasks", headers={"Origin": "https://evil.example.org"})
        found.append(asked.status_code)
        hold(set(found) <= {403, 405, 415}, f"answered {found}")
        hold("access-control-allow-origin" not in asked.headers, "CORS lets others read")
        return f"answered {found}, no CORS header"


KEYS: dict[str, list[str]] = {
    "no key": [],
    "an unknown key": ["Authorization: Bearer not-a-key-of-ours"],
    "an empty key": ["Authorization: Bearer "],
    "Basic": ["Authorization: Basic YWxpY2U6YWxpY2U="],
    "a key cut by one": [f"Authorization: Bearer {ALICE[:-1]}"],
    "a key of the other case": [f"Authorization: Bearer {ALICE.upper()}"],
    "a key in the query": [],
    "a key with another behind it": [f"Authorization: Bearer {ALICE}, Bearer {ROOT}"],
    "two headers, a good one last": ["Authorization: Bearer nobody-knows-it", f"Authorization: Bearer {ALICE}"],
    "two headers, a good one first": [f"Authorization: Bearer {ALICE}", "Authorization: Bearer nobody-knows-it"],
    "two good headers": [f"Authorization: Bearer {ALICE}", f"Authorization: Bearer {ROOT}"],
    "Proxy-Authorization": [f"Proxy-Authorization: Bearer {ALICE}"],
    "Latin-1 in the key": ["Authorization: Bearer \xe4\xf6\xfc\xdf\xe4\xf6\xfc\xdf"],
    "the key's SHA-256": ["Authorization: Bearer " + "0" * 64],
}


async def _signed_in(home: Path, lines: list[str], query: str) -> str:
    async with ground(home) as g:
        raw = request("GET", f"/v1/tasks{query}", *lines, "Connection: close")
        heard = await exchange(g.port, raw, seconds=2)
        hold(statuses(heard) == [401], f"answered {statuses(heard)}")
        hold(b"www-authenticate: bearer" in heard.lower(), "no WWW-Authenticate")
        return "401"


def _key(name: str, lines: list[str]) -> None:
    async def play(home: Path) -> str:
        return await _signed_in(home, lines, f"?key={ALICE}&access_token={ALICE}" if "query" in name else "")

    add("key", name, play)


for _name, _lines in KEYS.items():
    _key(_name, _lines)


# ── paths ────────────────────────────────────────────────────────────────────

PATHS = (
    "//v1/tasks", "/v1//tasks", "/v1/tasks/", "/./v1/tasks", "/x/../v1/tasks", "/callbacks/../v1/tasks",
    "/callbacks/%2e%2e/v1/tasks", "/callbacks/..%2fv1%2ftasks", "/healthz/../v1/tasks", "/healthz%00/v1/tasks",
    "/healthz;/v1/tasks", "/%76%31/tasks", "/v1%2ftasks", "/V1/TASKS", "/v1/tasks%00", "/v1/tasks%20", "/v1\\tasks",
    "/v1/tasks/..%2f..%2fetc%2fpasswd", "/v1/tasks/%ff", "/v1/tasks/a%0d%0aX-Evil:1", "/v1/tasks?%00=1",
    "http://evil.example.org/v1/tasks", "*", "/..", "/.env", "/boomerang.db", "/metrics", "/metrics/", "/healthz/x",
)  # fmt: skip


async def _path(home: Path, path: str) -> str:
    async with ground(home) as g:
        heard = await exchange(g.port, request("GET", path, "Connection: close"), seconds=2)
        found = statuses(heard)
        hold(len(found) == 1 and found[0] in {400, 401, 404}, f"answered {found}")
        hold(b"x-evil" not in heard.lower().partition(b"\r\n\r\n")[0], "a header was injected")
        return f"{found[0]} without a key"


def _trick(path: str) -> None:
    async def play(home: Path) -> str:
        return await _path(home, path)

    add("path", path, play)


for _each in PATHS:
    _trick(_each)


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


async def _inject(home: Path, line: str) -> str:
    async with ground(home) as g:
        raw = request("GET", "/v1/tasks", f"Authorization: Bearer {ALICE}", line, "Connection: close")
        heard = (await exchange(g.port, raw, seconds=2)).partition(b"\r\n\r\n")[0]
        hold(b"x-evil" not in heard.lower() and b"\x1b" not in heard and len(heard) < 2000, "it came back in a header")
        hold("x-evil" not in g.logged.getvalue().lower(), "it is in the log")
        return f"{statuses(heard)}, not echoed"


def _injected(name: str, line: str) -> None:
    async def play(home: Path) -> str:
        return await _inject(home, line)

    add("header", name, play)


for _name, _line in INJECTED.items():
    _injected(_name, _line)


@attempt("XSS", "markup in prompt, metadata, query and upstream errors")
async def markup(home: Path) -> str:
    """Put a script wherever text goes: every answer is JSON that no browser takes for a page."""
    script = "<script>alert(1)</script>"
    async with ground(home) as g:
        task = await g.submit(**g.asking(prompt=script, payload=script), metadata={script: script})
        paths = ("", "/events", f"?{script}=1")
        answers = [await g.http.get(f"/v1/tasks/{task['id']}{each}") for each in paths]
        answers += [await g.http.get(f"/v1/{script}"), await g.http.get(f"/v1/tasks?status={script}")]
        for answer in answers:
            kind, sniff = answer.headers["content-type"], answer.headers["x-content-type-options"]
            hold(kind in {"application/json", PROBLEM} and sniff == "nosniff", f"{kind}, {sniff}")
            hold("default-src 'none'" in answer.headers["content-security-policy"], "no policy")
        return f"{len(answers)} answers, all JSON with nosniff and a policy"


@attempt("upgrade", "WebSocket and HTTP/2 upgrades, PRI, CONNECT and TRACE")
async def upgrades(home: Path) -> str:
    """Ask for another protocol: none is spoken, and none goes round the guard."""
    ws = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
          "Sec-WebSocket-Version: 13"]  # fmt: skip
    h2c = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
    async with ground(home) as g:
        found = []
        for raw in (
            request("GET", "/v1/tasks", *ws),
            request("GET", "/v1/tasks", *h2c),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            request("CONNECT", "169.254.169.254:80"),
            request("TRACE", "/v1/tasks", "X-Secret: s3cr3t"),
        ):
            heard = await exchange(g.port, raw, seconds=1)
            hold(b"s3cr3t" not in heard, "TRACE echoes")
            found += statuses(heard)
        hold(set(found) <= {400, 401, 404, 405}, f"answered {found}")
        hold((await g.http.get("/healthz")).status_code == 200, "the service does not answer any more")
        return f"answered {found}"
