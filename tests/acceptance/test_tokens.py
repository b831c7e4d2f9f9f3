"""A running service refuses every changed or forged callback token."""

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
from tests.acceptance.processes import HOST, Json, Workspace, until
from tests.support.ports import free_port

TIME_DEPENDENT = ("boomerang_oldest_unsettled_task_seconds", "boomerang_oldest_due_row_seconds")
"""Metrics that change with time."""

REFUSED = 'boomerang_callbacks_total{verdict="bad_token"}'
BY_REASON = "boomerang_callbacks_refused_total"
UNKNOWN_KEY = "a-key-that-this-service-has-never-had-at-all"


@dataclass(kw_only=True)
class CallbackRecorder:
    """Listens at the public address and records callbacks without forwarding them."""

    url: str = ""
    callbacks: list[tuple[str, bytes]] = field(default_factory=list)

    async def record(self, request: Request) -> Response:
        """Record the token and the body of a callback."""
        self.callbacks.append((request.path_params["token"], await request.body()))
        return Response(status_code=204)

    async def final_callback(self, task_id: str) -> tuple[str, bytes]:
        """Wait for the final callback of a task and return its token and body."""

        def final() -> list[tuple[str, bytes]]:
            return [
                (token, body) for token, body in self.callbacks if token.startswith(task_id) and b"completed" in body
            ]

        await until(lambda: bool(final()), what="the last callback")
        return final()[0]


@asynccontextmanager
async def recording_callbacks() -> AsyncIterator[CallbackRecorder]:
    """Run a recorder inside the block."""
    recorder = CallbackRecorder()
    app = Starlette(routes=[Route("/callbacks/{token}", recorder.record, methods=["POST"])])
    async with serving(app, listen(HOST, 0), grace=1) as recorder.url:
        yield recorder


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything about a task that a callback could change, without the traces of refused ones."""

    task: Json
    history: list[Json]
    metrics: dict[str, float]
    refused: float


async def take_snapshot(at: Service, task_id: str) -> Snapshot:
    """Read a snapshot."""
    metrics = await at.metrics()
    refused = metrics.pop(REFUSED, 0.0)
    stable = {
        name: value for name, value in metrics.items() if name not in TIME_DEPENDENT and not name.startswith(BY_REASON)
    }
    history = [entry for entry in await at.history(task_id) if not is_refusal(entry)]
    return Snapshot(task=await at.task(task_id), history=history, metrics=stable, refused=refused)


def is_refusal(entry: Json) -> bool:
    """Return whether an entry of a history counts refused callbacks."""
    return bool(str(entry.get("verdict", "")).startswith("refused_"))


async def wait_for_refusals(at: Service, task_id: str) -> dict[str, int]:
    """Return how many refused callbacks the history of a task shows, by verdict, once it shows expired ones."""
    found: dict[str, int] = {}

    async def shown() -> bool:
        found.update({entry["verdict"]: entry["count"] for entry in await at.history(task_id) if is_refusal(entry)})
        return "refused_expired" in found

    await until(shown, what="refused callbacks in the history")
    return found


async def wait_until_running(at: Service, task_id: str) -> None:
    """Wait until the provider runs the task and no delivery is pending."""

    async def quiet() -> bool:
        pending = (await at.metrics()).get('boomerang_deliveries{status="pending"}', 0.0)
        return (await at.task(task_id))["status"] == "in_progress" and not pending

    await until(quiet, what="a running task without pending deliveries")


def changed(token: str) -> list[str]:
    """Return all tokens that differ from `token` in one character."""
    return [f"{token[:at]}{'B' if token[at] == 'A' else 'A'}{token[at + 1 :]}" for at in range(len(token))]


def forged(task_id: str) -> list[str]:
    """Return tokens with an unknown key, an expired token and tokens of another purpose."""
    soon, past = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)
    known, unknown = Tokens([SECRET]), Tokens([UNKNOWN_KEY])
    return [
        unknown.callback_token(TaskId(task_id), 1, soon),
        known.callback_token(TaskId(task_id), 1, past),
        known.payload_token(TaskId(task_id), 1),
        unknown.payload_token(TaskId(task_id), 1),
    ]


async def test_only_the_original_token_is_accepted(workspace: Workspace) -> None:
    """Each changed, forged, expired or misused token gets 403 and changes nothing; the original gets 204."""
    async with (
        recording_callbacks() as recorder,
        upstream(workspace, "--tiny-videos", "--run-time", "100ms") as sandbox,
    ):
        env = settings(sandbox.url, recorder.url, sqlite(workspace), POLL_FIRST="1h", POLL_MAX="1h")
        async with service(await serve(workspace, env, port=free_port())) as at:
            task_id = (await at.submit())["id"]
            token, body = await recorder.final_callback(task_id)
            await wait_until_running(at, task_id)
            before = await take_snapshot(at, task_id)
            payload = (await sandbox.ledger())["bills"][0]["payload"]
            wrong = [*changed(token), *forged(task_id), payload]
            answers = [await call_back(at, one, body) for one in wrong]
            assert {answer.status_code for answer in answers} == {403}
            after = await take_snapshot(at, task_id)
            assert after.refused == before.refused + len(wrong)
            assert (after.task, after.history, after.metrics) == (before.task, before.history, before.metrics)
            traces = await wait_for_refusals(at, task_id)
            assert traces.keys() == {"refused_unknown_key", "refused_expired"}
            assert sum(traces.values()) <= len(wrong)
            assert (await call_back(at, token, body)).status_code == 204
            assert (await at.wait_until_settled(task_id))["settled_by"] == "callback"


async def test_body_of_another_task_is_refused(workspace: Workspace) -> None:
    """A payload token of one task in a callback for another gets 403 and changes neither."""
    async with (
        recording_callbacks() as recorder,
        upstream(workspace, "--tiny-videos", "--run-time", "100ms") as sandbox,
    ):
        env = settings(sandbox.url, recorder.url, sqlite(workspace), POLL_FIRST="1h", POLL_MAX="1h")
        async with service(await serve(workspace, env, port=free_port())) as at:
            one, other = (await at.submit())["id"], (await at.submit())["id"]
            (token, body), (_, foreign) = await recorder.final_callback(one), await recorder.final_callback(other)
            own_token, other_token = (Tokens([SECRET]).payload_token(TaskId(task_id), 1) for task_id in (one, other))
            mixed = body.replace(own_token.encode(), other_token.encode())
            assert mixed != body
            await wait_until_running(at, one)
            await wait_until_running(at, other)
            before = await take_snapshot(at, one)
            for bad in (foreign, mixed):
                assert (await call_back(at, token, bad)).status_code == 403
            after = await take_snapshot(at, one)
            assert (after.task, after.history) == (before.task, before.history)


async def call_back(at: Service, token: str, body: bytes) -> httpx.Response:
    """Send a callback with this token."""
    return await at.http.post(f"/callbacks/{token}", content=body, headers={"Content-Type": "application/json"})
