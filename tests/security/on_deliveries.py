"""What deliveries reveal to clients, and what clients can make the service send."""

import asyncio
import base64
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import anyio
from starlette.responses import JSONResponse

from service.deliveries import egress_policy
from service.domain.circuit import LIMITS
from service.domain.webhook_secrets import derive_client_secret
from tests.security.catalogue import attempt, require
from tests.security.environment import (
    ALICE,
    BOB,
    KEY,
    ROOT,
    Json,
    ServiceUnderTest,
    bearer,
    completed,
    service_under_test,
)
from tests.security.on_names import INSIDE, NAME, resolving
from tests.security.on_receivers import short_timeout
from tests.security.raw import HOST, talking
from tests.security.webhook_receiver import receiving

TOKEN = "8123456789:AAHtoken-of-the-bot/with+signs"
SECRET = "whsec_" + base64.b64encode(b"own-secret-of-alice-32-bytes-xx!").decode()
PAYLOAD = "p" * 1_000_000
ENTRIES = 16
SCHEDULE = ",".join(["0s", *["200ms"] * 8])
TWICE_SCHEDULE = 3.2
"""Seconds."""

LEAKY = """
from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on("task.submitted", name="leaky")
async def leaky(event: Event, tools: Tools) -> None:
    try:
        reply = await tools.http.post(tools.settings["HANDLER_LEAKY_URL"], json={})
        reply.raise_for_status()
    except Exception as error:
        tools.log.exception("could not reach %s: %s", tools.settings["HANDLER_LEAKY_URL"], error)
        raise
"""


async def _deliveries(g: ServiceUnderTest, key: str, **filters: str) -> list[Json]:
    rows: list[Json] = (await g.http.get("/v1/deliveries", params=filters, headers=bearer(key))).json()["data"]
    return rows


async def _ended(g: ServiceUnderTest, count: int, **filters: str) -> list[Json]:
    """Return the deliveries of all clients once so many have ended."""
    with anyio.fail_after(50):
        while True:
            rows = [row for row in await _deliveries(g, ROOT, **filters) if row["status"] != "pending"]
            if len(rows) >= count:
                return rows
            await anyio.sleep(0.02)


@contextmanager
def _local_handler(home: Path, text: str) -> Iterator[None]:
    """Put a handler of the operator into the working directory inside the block."""
    (home / "handlers").mkdir()
    (home / "handlers" / "leaky.py").write_text(text, "utf-8")
    with contextlib.chdir(home):
        yield


@attempt("deliveries", "a token in the address of an operator's handler that fails")
async def token_in_address(home: Path) -> str:
    """Let raise_for_status fail for an address with a token: log, attempts and lists of client and admin lack it."""
    location = f"Location: /login/{TOKEN}?next=1\r\n".encode()
    async with receiving(status=302, headers=location) as (received, url):
        with _local_handler(home, LEAKY):
            more = {"HANDLER_LEAKY_URL": f"{url}/bot{TOKEN}/send?chat=hidden-chat", "EGRESS_ALLOW": HOST}
            async with service_under_test(home, RETRY_SCHEDULE="0s,50ms", **more) as g:
                task = await g.submit()
                await _ended(g, 1, handler="leaky")
                paths = ("/v1/deliveries", f"/v1/tasks/{task['id']}/events")
                seen = {
                    key: "".join([(await g.http.get(p, headers=bearer(key))).text for p in paths])
                    for key in (ALICE, ROOT)
                }
                logged = g.logged.getvalue()
    require(len(received.heads) == 2, f"{len(received.heads)} requests")
    require("could not reach" in logged and "Traceback" in logged, "the handler did not log its error")
    for text in (logged, *seen.values()):
        found = [secret for secret in ("AAHtoken", "with+signs", "with%2Bsigns", "hidden-chat") if secret in text]
        require(not found, f"exposed: {found}")
    require("answered 302" in seen[ROOT] and "answered" not in seen[ALICE], "the client sees the error of the operator")
    return "HTTPStatusError for the client, the status for an admin, the token for nobody"


async def _silent(_: StreamReader, __: StreamWriter) -> None:
    await asyncio.sleep(60)


async def _banner(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()
    await reader.read(1)


@attempt("deliveries", "exploring the network by the errors of notify")
async def exploring(home: Path) -> str:
    """Name closed, silent, foreign, TLS and internal targets: the client reads the same of each."""
    async with talking(_silent) as silent, talking(_banner) as banner:
        urls = {
            "closed": f"http://{HOST}:1030/",
            "silent": f"http://{HOST}:{silent}/",
            "another protocol": f"http://{HOST}:{banner}/",
            "no TLS": f"https://{HOST}:{banner}/",
            "inside": f"http://{NAME}:{silent}/",
            "unknown name": "http://nowhere.invalid/",
        }
        with resolving(lambda _: [INSIDE]), short_timeout(2.0):
            async with service_under_test(home, NOTIFY_ALLOW=HOST) as g:
                await g.submit(notify=[{"handler": "webhook", "url": url} for url in urls.values()])
                details = {row["last_error"] for row in await _ended(g, len(urls), handler="webhook")}
                rows = await _deliveries(g, ALICE, handler="webhook")
                refused = [await _refusal(g, f"http://{host}/") for host in ("8.8.8.8:22", f"{NAME}:25", INSIDE)]
    found = {(row["last_error"], row["status"], row["fault"]) for row in rows}
    require(len(found) == 1, f"the client distinguishes {found}")
    require(len(details) >= 4, f"an admin reads only {details}")
    return f"{found.pop()[0]}; at submission: {refused[0][:40]}"


async def _refusal(g: ServiceUnderTest, url: str) -> str:
    body = g.task_body() | {"notify": [{"handler": "webhook", "url": url}]}
    response = await g.http.post("/v1/tasks", json=body)
    require(response.status_code == 422, f"{url} is accepted")
    return str(response.json()["errors"][0]["msg"])


@attempt("deliveries", "replaying what the operator's handlers did")
async def replaying(home: Path) -> str:
    """Replay every delivery as a client: only those of the own notify run again, and their body has the same id."""
    async with receiving() as (received, url), service_under_test(home, NOTIFY_ALLOW=HOST) as g:
        entry = {"handler": "webhook", "url": url, "events": ["task.submitted"]}
        await g.submit(notify=[entry])
        await _ended(g, 2)
        found = {}
        for row in await _deliveries(g, ALICE):
            response = await g.http.post(f"/v1/deliveries/{row['id']}/replay")
            found[row["handler"]] = response.status_code
        with anyio.fail_after(20):
            while len(received.bodies) < 2:  # noqa: ASYNC110 - the service has no event to wait for
                await anyio.sleep(0.02)
    require(found == {"log": 403, "webhook": 202}, f"answered {found}")
    ids = {body.split(b'"id":"')[1][:36] for body in received.bodies}
    require(len(ids) == 1, "a receiver cannot recognize the replay")
    require(received.header("webhook-id", 0) != received.header("webhook-id", 1), "the replay has the old message id")
    return "403 for the operator's; the replayed body has the event's id"


@attempt("deliveries", "an address that only the operator's handlers may dial")
async def operators_address(home: Path) -> str:
    """Name the operator's media server in notify: EGRESS_ALLOW and WEBHOOK_URL do not count for clients."""
    async with receiving() as (received, url), service_under_test(home, EGRESS_ALLOW=HOST, WEBHOOK_URL=url) as g:
        reason = await _refusal(g, url)
        with resolving(lambda _: [HOST]):
            port = url.rpartition(":")[2]
            notify = [{"handler": "webhook", "url": f"http://{NAME}:{port}/"}]
            await g.submit(notify=notify)
            rows = [row for row in await _ended(g, 2, handler="webhook") if row["requested"]]
    require(len(received.heads) == 1, f"{len(received.heads)} requests")
    require(rows[0]["status"] == "dead", f"it is {rows[0]['status']}")
    return f"only the operator's own event arrives; {reason[:60]}"


@attempt("deliveries", "a public address of this machine itself")
async def own_address(home: Path) -> str:
    """Resolve to a public address that this machine has: the connection is closed before a byte is sent."""
    with patch.object(egress_policy, "_public", lambda _: True), resolving(lambda _: [HOST]):
        async with receiving() as (received, url), service_under_test(home) as g:
            notify = [{"handler": "webhook", "url": f"http://{NAME}:{url.rpartition(':')[2]}/"}]
            await g.submit(notify=notify)
            [row] = await _ended(g, 1, handler="webhook")
    require(not received.heads, "an internal server got a request")
    require("an address of this machine" in row["last_error"], row["last_error"])
    return str(row["last_error"])[:90]


@attempt("deliveries", "1 MB in, 460 MB out")
async def amplification(home: Path) -> str:
    """Submit a payload of 1 MB with 16 entries for one host that fails: count what is sent in twice the schedule.

    Nine attempts of each entry would be over then; the circuit of the host holds them.
    """
    settings = {"NOTIFY_ALLOW": HOST, "RETRY_SCHEDULE": SCHEDULE}
    async with receiving(status=500) as (received, url), service_under_test(home, **settings) as g:
        notify = [{"handler": "webhook", "url": f"{url}/{number}"} for number in range(ENTRIES)]
        await g.submit(**g.task_body(payload=PAYLOAD), notify=notify)
        with anyio.fail_after(40):
            while not await _open_circuits(g):  # noqa: ASYNC110 - the service has no event to wait for
                await anyio.sleep(0.05)
        await anyio.sleep(TWICE_SCHEDULE)
    sent = sum(map(len, received.bodies))
    require(sent < 50_000, f"{sent} bytes were sent in {len(received.bodies)} requests")
    require(LIMITS.opens_after <= len(received.bodies) <= 2 * ENTRIES, f"{len(received.bodies)} requests")
    return f"{sent // 1024} KB in {len(received.bodies)} requests"


async def _open_circuits(g: ServiceUnderTest) -> list[Json]:
    response = await g.http.get("/v1/circuits", headers=bearer(ROOT))
    return [each for each in response.json()["data"] if each["state"] == "open"]


@attempt("deliveries", "an operator's handler in the notify of a client")
async def foreign_handler(home: Path) -> str:
    """Name log and archive in notify: a client may not, and its answer names only what it may use; an admin may."""
    async with service_under_test(home, ARCHIVE_URL=(home / "videos").as_uri()) as g:
        for name in ("log", "archive"):
            body = g.task_body() | {"notify": [{"handler": name}]}
            response = await g.http.post("/v1/tasks", json=body)
            require(response.status_code == 422, f"{name} is accepted")
            require("archive, log" not in response.text, "the operator's handlers are listed")
            response = await g.http.post("/v1/tasks", json=body, headers=bearer(ROOT))
            require(response.status_code == 202, f"{name} of an admin is refused")
    return "422 for a client, 202 for an admin"


@attempt("deliveries", "one client's secret for another client's webhooks")
async def other_secret(home: Path) -> str:
    """Verify webhooks of two clients: each with its own derived secret, none with that of the other."""
    secrets = {name: derive_client_secret(KEY, name) for name in ("alice", "bob")}
    found = {}
    for name, key in (("alice", ALICE), ("bob", BOB)):
        (home / name).mkdir()
        async with receiving() as (received, url):
            async with service_under_test(home / name, NOTIFY_ALLOW=HOST) as g:
                await g.submit(key, notify=[{"handler": "webhook", "url": url}])
                await _ended(g, 1, handler="webhook")
            found[name] = [other for other, secret in secrets.items() if received.verifies(secret)]
    require(found == {"alice": ["alice"], "bob": ["bob"]}, str(found))
    return "each verifies with its own secret only"


@attempt("deliveries", "webhook secrets in a stolen database")
async def stolen_database(home: Path) -> str:
    """Search every file of the database for a client's secret, while it is needed and afterwards."""
    own = base64.b64decode(SECRET.removeprefix("whsec_"))
    forms = (SECRET.encode(), SECRET.removeprefix("whsec_").encode(), own, own.hex().encode())
    async with receiving() as (received, url):
        async with service_under_test(home, NOTIFY_ALLOW=HOST) as g:
            task = await g.submit(notify=[{"handler": "webhook", "url": url, "secret": SECRET}])
            found = _found_in(home, forms)
            g.upstream.poll_reply = lambda _: JSONResponse(completed("up1"))
            await g.call_back(g.token(), completed("up1"))
            await g.wait_until(task["id"], lambda now: now["status"] == "completed")
            rows = await _ended(g, 2, handler="webhook")
            with anyio.fail_after(20):
                while await _pending(g):  # noqa: ASYNC110 - the service has no event to wait for
                    await anyio.sleep(0.02)
            replays = [(await g.http.post(f"/v1/deliveries/{row['id']}/replay")).status_code for row in rows]
        found += _found_in(home, forms)
    require(not found, "the database has the secret")
    require(received.verifies(SECRET, 0) and received.verifies(SECRET), "it did not sign")
    require(set(replays) == {409}, f"a replay after the last delivery is answered {replays}")
    return "sealed while it is needed, and deleted with the last delivery"


def _found_in(home: Path, forms: Sequence[bytes]) -> list[bytes]:
    """Return which of `forms` are in a file of the database."""
    return [form for path in home.glob("boomerang.db*") for form in forms if form in path.read_bytes()]


async def _pending(g: ServiceUnderTest) -> bool:
    return any(row["status"] == "pending" for row in await _deliveries(g, ROOT))
