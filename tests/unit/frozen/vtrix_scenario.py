"""A scenario with the provider Vtrix that produces every outcome that can be produced from outside."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.unit.frozen.bursts import BURST, burst
from tests.unit.frozen.internals import image, uri
from tests.unit.frozen.mistakes import send_invalid_requests
from tests.unit.frozen.provider import CUT, Json, Reply
from tests.unit.frozen.running import MICROSECONDS, Running, unix_microseconds, until

ROOT = {"Authorization": "Bearer key-of-root"}
ANN = {"Authorization": "Bearer key-of-ann"}
SETTINGS = {
    "UPSTREAM_KEY": "any",
    "UPSTREAM_RATE": "1000/s",
    "PUBLIC_URL": "https://boomerang.example",
    "API_KEYS": "root=key-of-root:admin,ann=key-of-ann",
    "ON_IN_DOUBT": "resubmit",
    "RETRY_SCHEDULE": "0s,1h",
}

CALLBACK_TOKENS = {
    "called": "called~1~9999999999.Bnw-Rp4MIQ1KKdZRaxhck7MNk5jGEuvVgj_ZI0Oge7Q",
    "garbled": "garbled~1~9999999999.H2dimTjGr2J32IXPRkFtFmYvKfDSWylT1G1lIWn6txY",
    "hinted": "hinted~1~9999999999.UmtB3_GJUGwcK_Ybr3BM-gYJ0VbhMEh3NnovjUKV7WE",
}
"""Tokens of callback addresses, made by the first release with the key of these tests; valid until 2286."""

PAYLOAD_TOKENS = {
    "another": "another~1.FGweEov0G93WHmEVDglAMWiKgb52cPMM03mLpL0Q1lc",
    "hinted": "hinted~1.ei0mTR8I_Rw4bgsm3e0IMTGlw7As7oBnm5_0kHe_724",
}
MIB = 1024 * 1024
GOLDEN_DEADLINE = 4_102_444_800
"""2100-01-01: the request for the task `golden` depends on the key alone."""

DOCUMENTS = {"openapi": "/openapi.json", "models": "/v1/models", "history": "/v1/tasks/called/events"}

RESUBMITTED_WARNING = (
    "the reply to a submission was lost, and the task was submitted again: the upstream may bill it twice"
)
SECOND_WAIT_NOTE = "waits for its callback once more: nobody may have listened while it could come"
"""Stored and compared sentences: after a rewording, a running task could be charged or deferred a third time."""

HANDLERS = """
from service import Event, Handlers, Reject, Retry, Tools

handlers = Handlers()


@handlers.on(name="rejecting")
async def rejecting(event: Event, tools: Tools) -> None:
    raise Reject("no")


@handlers.on(name="failing", attempts=1)
async def failing(event: Event, tools: Tools) -> None:
    raise KeyError("ours")


@handlers.on(name="later")
async def later(event: Event, tools: Tools) -> None:
    raise Retry("not now", after=3600)
"""

IN_PROGRESS = ("unavailable", "refused", "unknown", "throttled", "completed", "failed", "running", "garbled", "warming")
"""Tasks in progress; each has a provider id `up-NAME` and its own scripted reply."""

POLLED = {*IN_PROGRESS, "foreign", "conflicting", "broken", "expired", "doubt-unnoted", "doubt-noted", "doubt-billed"}

VIDEO = {"type": "video", "url": "https://files.example/video.mp4"}
COMPLETED = {"status": "completed", "output": [{"content": [VIDEO]}], "usage": {"cost": "0.35", "discount": 1}}
FAILED = {"status": "failed", "error": {"code": "Bad", "message": "no"}}
ERROR = {"error": {"code": "Busy", "message": "later"}}
RUNNING = {"status": "in_progress", "progress": 0.5}


def task_reply(upstream_id: str, body: Json) -> Reply:
    """Return a reply with the task body `body`."""
    return 200, {"id": upstream_id, **body}


def replies() -> dict[str, list[Reply]]:
    """Return the replies of Vtrix, by prompt and by provider id."""
    tasks: dict[str, Json] = {"up-completed": COMPLETED, "up-failed": FAILED, "up-called": COMPLETED}
    running = ("up-running", "up-expired", "up-garbled", "up-golden", "up-noted", "up-media")
    return {
        "up-unavailable": [(500, b"<html>")],
        "up-refused": [(401, ERROR)],
        "up-throttled": [(429, ERROR), task_reply("up-throttled", RUNNING)],
        "up-foreign": [task_reply("up-foreign", RUNNING | {"payload": PAYLOAD_TOKENS["another"]})],
        "fine": [task_reply("up-fine", COMPLETED)],
        "media": [task_reply("up-media", RUNNING)],
        "golden": [task_reply("up-golden", RUNNING)],
        "doubt-noted": [task_reply("up-noted", RUNNING)],
        "lost": [CUT],
        "never": [(500, ERROR)],
        "no": [(400, ERROR)],
        "up-warming": [task_reply("up-warming", {"status": "warming_up"})],
        **{name: [task_reply(name, body)] for name, body in tasks.items()},
        **{name: [task_reply(name, RUNNING)] for name in running},
    }


def prepare(directory: Path) -> None:
    """Write the key file of an earlier start, and a module with custom handlers."""
    key = directory / "frozen.db.key"
    key.write_text(
        "SECRET_KEYS=frozen-frozen-frozen-frozen-frozen-frozen\nWEBHOOK_SECRETS=whsec_ZXhhbXBsZS1leGFtcGxlLWV4YW1wbGUtZXhhbXBsZQ==\n"
    )
    key.chmod(0o600)
    (directory / "handlers").mkdir()
    (directory / "handlers" / "mine.py").write_text(HANDLERS)


def run_scenario(service: Running) -> None:
    """Run the scenario and wait until it has finished."""
    _submit(service)
    _write_tasks(service)
    _write_inbox(service)
    until(lambda: _is_through(service), seconds=30)
    _call_back(service)
    until(lambda: _is_delivered(service), seconds=10)
    garbled = [json.dumps({"id": "up-garbled", "status": "processing", "n": number}) for number in range(BURST)]
    asyncio.run(burst(service, CALLBACK_TOKENS["garbled"], garbled))
    until(lambda: not service.rows("SELECT 1 FROM inbox WHERE verdict = 'unread'"), seconds=10)
    send_invalid_requests(service)
    for name, path in DOCUMENTS.items():
        service.send(name, "GET", path)


def _is_through(service: Running) -> bool:
    """Return whether every poll and submission that the tests check has happened."""
    if not {"golden", "media", "doubt-noted"} <= service.script.submissions.keys():
        return False
    if not service.words("SELECT task_id FROM polls") >= POLLED:
        return False
    return not service.rows("SELECT 1 FROM tasks WHERE id IN ('none', 'expired') AND due_at < ?", unix_microseconds())


def _is_delivered(service: Running) -> bool:
    """Return whether each handler has finished an attempt for the task `called`."""
    query = "SELECT handler FROM deliveries WHERE task_id = 'called' AND attempted > 0"
    return len(service.words(query)) > len(("rejecting", "failing", "later"))


def _submit(service: Running) -> None:
    for prompt in ("fine", "lost", "never", "no"):
        service.submit(prompt)
    media = {"images": [uri("image/png", image())], "payload": "mine", "meta_data": "{}"}
    service.submit("media", params=media, metadata={"a": 1}, notify=[{"handler": "log"}])
    until(lambda: service.task(service.ids["lost"])["status"] not in {"queued", "submitting"}, seconds=20)
    answer = service.request("POST", f"/v1/tasks/{service.ids['lost']}/resubmit")
    service.ids["again"] = answer.json().get("id", "")
    golden = {"status": "queued", "submission": 0, "deadline_at": GOLDEN_DEADLINE * MICROSECONDS}
    service.add_task("golden", **golden)


def _write_tasks(service: Running) -> None:
    for name in IN_PROGRESS:
        service.add_task(name, upstream_id=f"up-{name}")
    doubt = {"status": "in_doubt", "guessed": 1}
    not_yet = unix_microseconds() + 600 * MICROSECONDS
    service.add_task("called", upstream_id="up-called", due_at=not_yet)
    service.add_task("foreign", hinted_id="up-foreign", **doubt)
    service.add_task("conflicting", hinted_id="up-running", **doubt)
    service.add_task("hinted", due_at=not_yet, **doubt)
    service.add_task("broken", hinted_fact='{"unknown": 1}')
    service.add_task("none")
    service.add_task("expired", upstream_id="up-expired", deadline_at=unix_microseconds() - 1)
    service.add_task("doubt-unnoted", **doubt)
    service.add_task("doubt-noted", note=SECOND_WAIT_NOTE, **doubt)
    service.add_task("doubt-billed", note=SECOND_WAIT_NOTE, warnings=json.dumps([RESUBMITTED_WARNING]), **doubt)


def _write_inbox(service: Running) -> None:
    foreign = {"id": "x", "status": "completed", "payload": PAYLOAD_TOKENS["another"]}
    for task_id, body in (("nobody", {"id": "x", "status": "completed"}), ("running", foreign)):
        service.insert(
            "inbox",
            digest=f"{task_id}~1~kept",
            task_id=task_id,
            submission=1,
            verdict="unread",
            received_at=unix_microseconds(),
            headers="{}",
            body=json.dumps(body).encode(),
        )


def call_back(service: Running, token: str, body: bytes) -> httpx.Response:
    """Send a callback."""
    return service.request("POST", f"/callbacks/{token}", content=body, headers={"Content-Type": "application/json"})


def _call_back(service: Running) -> None:
    token = CALLBACK_TOKENS
    service.record("called", call_back(service, token["called"], json.dumps({"id": "up-called", **COMPLETED}).encode()))
    hinted = {"id": "up-unheard", **COMPLETED, "payload": PAYLOAD_TOKENS["hinted"]}
    call_back(service, token["hinted"], json.dumps(hinted).encode())
    service.record("garbled", call_back(service, token["garbled"], b"<html>"))
    service.record("forged", call_back(service, token["called"][:-1] + "_", b"{}"))
    service.record("oversized", call_back(service, token["called"], b"x" * (2 * MIB + 1)))
    until(lambda: _settled(service, ("called", "hinted")), seconds=20)


def _settled(service: Running, tasks: Sequence[str]) -> bool:
    return all(service.task(one)["settled_at"] for one in tasks)
