"""A real callback's address, changed in any way, opens nothing on a real service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.task import TaskId
from service.domain.tokens import Tokens
from tests.acceptance.environment import SECRET, Service, serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Json, Workspace, free_port, until

TIME_DEPENDENT = ("boomerang_oldest_unsettled_task_seconds", "boomerang_oldest_due_row_seconds")
"""What grows by itself."""

REFUSED = 'boomerang_callbacks_total{verdict="bad_token"}'
UNKNOWN_KEY = "a-key-that-this-service-has-never-had-at-all"


@dataclass(kw_only=True)
class CallbackRecorder:
    """Stands at the public address and keeps callbacks to itself."""

    url: str = ""
    taken: list[tuple[str, bytes]] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        """Keep one callback: its token and its body."""
        self.taken.append((request.path_params["token"], await request.body()))
        return Response(status_code=204)

    async def end_of(self, task_id: str) -> tuple[str, bytes]:
        """Return token and body of the callback that tells the end of a task."""

        def ends() -> list[tuple[str, bytes]]:
            return [(token, body) for token, body in self.taken if token.startswith(task_id) and b"completed" in body]

        await until(lambda: bool(ends()), what="the last callback")
        return ends()[0]


@asynccontextmanager
async def recording_callbacks() -> AsyncIterator[CallbackRecorder]:
    """Listen at a public address."""
    recorder = CallbackRecorder()
    app = Starlette(routes=[Route("/callbacks/{token}", recorder.take, methods=["POST"])])
    async with serving(app, listen(HOST, 0), grace=1) as recorder.url:
        yield recorder


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything that an outsider could change about a task."""

    task: Json
    history: list[Json]
    metrics: dict[str, float]
    refused: float


async def take_snapshot(at: Service, task_id: str) -> Snapshot:
    """Look at everything."""
    metrics = await at.metrics()
    refused = metrics.pop(REFUSED, 0.0)
    still = {name: value for name, value in metrics.items() if name not in TIME_DEPENDENT}
    return Snapshot(task=await at.task(task_id), history=await at.history(task_id), metrics=still, refused=refused)


async def wait_until_running(at: Service, task_id: str) -> None:
    """Wait until the task runs at the upstream and its first event is delivered."""

    async def quiet() -> bool:
        pending = (await at.metrics()).get('boomerang_deliveries{status="pending"}', 0.0)
        return (await at.task(task_id))["status"] == "in_progress" and not pending

    await until(quiet, what="rest")


def changed(token: str) -> list[str]:
    """Return the token with each of its characters changed to another, one at a time."""
    return [f"{token[:at]}{'B' if token[at] == 'A' else 'A'}{token[at + 1 :]}" for at in range(len(token))]


def forged(task_id: str) -> list[str]:
    """Return tokens with an unknown key, out of date with ours, and of another purpose."""
    soon, past = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)
    ours, theirs = Tokens([SECRET]), Tokens([UNKNOWN_KEY])
    return [
        theirs.callback_token(TaskId(task_id), 1, soon),
        ours.callback_token(TaskId(task_id), 1, past),
        ours.payload_token(TaskId(task_id), 1),
        theirs.payload_token(TaskId(task_id), 1),
    ]


async def test_only_the_very_token_opens_the_door(workspace: Workspace) -> None:
    """Each changed, forged, expired or borrowed token is refused with 403 and changes nothing; the true one works."""
    async with (
        recording_callbacks() as recorder,
        upstream(workspace, "--tiny-videos", "--run-time", "100ms") as sandbox,
    ):
        env = settings(sandbox.url, recorder.url, sqlite(workspace), POLL_FIRST="1h", POLL_MAX="1h")
        async with service(await serve(workspace, env, port=free_port())) as at:
            task_id = (await at.submit())["id"]
            token, body = await recorder.end_of(task_id)
            await wait_until_running(at, task_id)
            before = await take_snapshot(at, task_id)
            payload = (await sandbox.ledger())["bills"][0]["payload"]
            wrong = [*changed(token), *forged(task_id), payload]
            answers = [await call_back(at, one, body) for one in wrong]
            assert {answer.status_code for answer in answers} == {403}
            after = await take_snapshot(at, task_id)
            assert after.refused == before.refused + len(wrong)
            assert (after.task, after.history, after.metrics) == (before.task, before.history, before.metrics)
            assert (await call_back(at, token, body)).status_code == 204
            assert (await at.wait_until_settled(task_id))["settled_by"] == "callback"


async def test_a_body_that_names_another_task_is_refused(workspace: Workspace) -> None:
    """The payload token of one task with the address of another gets 403 and changes neither."""
    async with (
        recording_callbacks() as recorder,
        upstream(workspace, "--tiny-videos", "--run-time", "100ms") as sandbox,
    ):
        env = settings(sandbox.url, recorder.url, sqlite(workspace), POLL_FIRST="1h", POLL_MAX="1h")
        async with service(await serve(workspace, env, port=free_port())) as at:
            one, other = (await at.submit())["id"], (await at.submit())["id"]
            (token, body), (_, foreign) = await recorder.end_of(one), await recorder.end_of(other)
            ours, theirs = (Tokens([SECRET]).payload_token(TaskId(task_id), 1) for task_id in (one, other))
            mixed = body.replace(ours.encode(), theirs.encode())
            assert mixed != body
            await wait_until_running(at, one)
            await wait_until_running(at, other)
            before = await take_snapshot(at, one)
            for bad in (foreign, mixed):
                assert (await call_back(at, token, bad)).status_code == 403
            after = await take_snapshot(at, one)
            assert (after.task, after.history) == (before.task, before.history)


async def call_back(at: Service, token: str, body: bytes) -> httpx.Response:
    """Call back with this token."""
    return await at.http.post(f"/callbacks/{token}", content=body, headers={"Content-Type": "application/json"})
