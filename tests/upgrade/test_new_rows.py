"""An older process reads rows that only the current release writes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.callback import callback_digest
from service.domain.callback_forms import VTRIX, callback_entry
from service.domain.models.validation import validate_params
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import Task, TaskId
from service.domain.tokens import TokenClaims, Tokens
from service.storage import Store, open_store
from service.storage.process_tables import rollouts
from service.storage.tables import input_references
from tests.acceptance.environment import MODEL, SECRET, Service
from tests.acceptance.processes import HOST, Json, Workspace, until
from tests.support.sample_media import image, uri
from tests.upgrade.environment import UpgradeEnvironment, upgrade_environment
from tests.upgrade.releases import Release

PICTURE = uri("image/png", image())


def end_of(task: Json) -> bytes:
    """Return the body of a callback that reports the task as completed."""
    return json.dumps(
        {"id": task["upstream_id"], "created_at": 1, "status": "completed", "model": task["model"]}
    ).encode()


async def store_unread(database_url: str, task: Json, body: bytes) -> None:
    """Store an unread callback, as the current release does during a burst: durable, but not recorded yet."""
    claim = TokenClaims(task_id=TaskId(task["id"]), submission=1)
    row = InboxEntry(
        task_id=claim.task_id,
        submission=claim.submission,
        digest=callback_digest(claim, body),
        body=body,
        received_at=datetime.now(UTC),
        verdict="unread",
    )
    async with open_store(database_url) as store:
        assert await store.inbox.store_unread([row]) == set()


async def call_back(at: Service, task: Json, body: bytes) -> int:
    """Send a callback to this process directly, and return the status code."""
    token = Tokens([SECRET]).callback_token(TaskId(task["id"]), 1, datetime.now(UTC) + timedelta(hours=1))
    return (await at.http.post(f"/callbacks/{token}", content=body)).status_code


async def verdicts(at: Service, task: Json) -> list[str]:
    """Return the verdict of each callback in a task's history."""
    return [row["verdict"] for row in await at.history(task["id"]) if row["kind"] == "callback"]


async def recorded(at: Service, task: Json) -> bool:
    """Return whether the task's history has one callback, which is recorded."""
    return await verdicts(at, task) == ["accepted"]


async def add_running_task(environment: UpgradeEnvironment, old: Service) -> Json:
    """Return a task that runs for an hour and sends no callback."""
    await environment.sandbox.set_switches(run_time="1h", callbacks=False)
    return await environment.submit(old, "in_progress")


async def test_unread_callback_is_recorded_once(
    workspace: Workspace, release: Release, tree: Path, shared_database_url: str
) -> None:
    """A process that does not read the inbox lists it and leaves it to the newer one; another records it itself.

    A repeat is another callback for a process that computes its digest differently: it is accepted and changes nothing
    twice.
    """
    async with upgrade_environment(workspace, release, tree, shared_database_url) as environment:
        old = await environment.old()
        task = await add_running_task(environment, old)
        await environment.migrate()
        body = end_of(task)
        await store_unread(shared_database_url, task, body)
        if release.reads_inbox:
            await until(lambda: recorded(old, task), what="the record of the older process")
        else:
            assert await verdicts(old, task) == ["unread"]
            assert [count for name, count in (await old.metrics()).items() if '"unread"' in name] == [1]
        new = await environment.new()
        await until(lambda: recorded(new, task), what="the record of the callback")
        assert await verdicts(old, task) == ["accepted"]
        assert await call_back(old, task, body) == 204
        assert await call_back(new, task, body) == 204
        assert await verdicts(new, task) == ["accepted"] * (1 if release.reads_inbox else 2)
        events = [row["type"] for row in await new.history(task["id"]) if row["kind"] == "event"]
        assert events.count("task.submitted") == 1
        assert not {"task.completed", "task.failed"} & set(events)  # a poll does not confirm it


async def add_with_picture(store: Store, task_id: str) -> None:
    """Store a task with an inline picture, as the current release does."""
    valid, now = validate_params(MODEL, {"prompt": "a cat", "images": [PICTURE]}), datetime.now(UTC)
    task = Task(
        id=TaskId(task_id),
        client="local",
        provider="vtrix",
        model=MODEL,
        bucket="bucket",
        params=dict(valid.params),
        created_at=now,
        due_at=now,
        deadline_at=now + timedelta(hours=1),
    )
    await store.intake.add(task, valid.blobs, None)


async def references(store: Store) -> int:
    """Return how many inputs are shared."""
    async with store._database.reading() as connection:
        found: int = (await connection.execute(select(func.count()).select_from(input_references))).scalar_one()
    return found


@pytest.mark.slow
async def test_older_process_never_submits_without_the_picture(
    workspace: Workspace, release: Release, tree: Path, shared_database_url: str
) -> None:
    """An older process submits a shared picture if it can read one; else every task has its own copy for a day.

    If one that cannot still runs after that, it fails a task whose picture is shared, before anything is sent or paid.
    """
    async with upgrade_environment(workspace, release, tree, shared_database_url) as environment:
        old = await environment.old()
        await environment.migrate()
        async with open_store(shared_database_url) as store:
            for number in range(2):
                await add_with_picture(store, f"own-{number}")
            assert await references(store) == (2 if release.shares_inputs else 0)
            for number in range(2):
                assert (await old.wait_until_settled(f"own-{number}"))["status"] == "completed"
            if release.shares_inputs:
                return
            async with store._database.writing() as write:
                await write.connection.execute(update(rollouts).values(begins_at=datetime.now(UTC)))
        async with open_store(shared_database_url) as store:
            await add_with_picture(store, "shared")
            assert await references(store) == 1
        assert (await old.wait_until_settled("shared"))["status"] == "failed"
        assert len((await environment.sandbox.ledger())["bills"]) == 2


@pytest.mark.slow
async def test_older_process_leaves_a_callback_in_the_provider_form(
    workspace: Workspace, release: Release, tree: Path, shared_database_url: str
) -> None:
    """An older process that knows no forms posts nothing and loses nothing: a newer one posts the provider's body."""
    posted: list[Json] = []

    async def take(request: Request) -> Response:
        posted.append(await request.json())
        return Response(status_code=204)

    app = Starlette(routes=[Route("/hook", take, methods=["POST"])])
    async with (
        upgrade_environment(workspace, release, tree, shared_database_url) as environment,
        serving(app, listen(HOST, 0), grace=1) as receiver,
    ):
        old = await environment.old()
        await environment.migrate()
        async with open_store(shared_database_url) as store:
            await add_with_callback(store, f"{receiver}/hook")
        assert (await old.wait_until_settled("formed"))["status"] == "completed"
        if not release.knows_forms:
            await until(lambda: tried(old, "formed"), what="an attempt of the older process")
            assert (posted, await dead_letters(old)) == ([], 0)
        new = await environment.new()
        await environment.stop(old)

        async def delivered() -> bool:
            return bool(posted)

        await until(delivered, what="the callback in the provider's form")
        assert (posted[0]["id"], posted[0]["status"]) == ("formed", "completed")
        assert await dead_letters(new) == 0


async def add_with_callback(store: Store, url: str) -> None:
    """Store a task whose end is announced in the provider's form, as the drop-in API does."""
    valid, now = validate_params(MODEL, {"prompt": "a cat", "images": [PICTURE]}), datetime.now(UTC)
    task = Task(
        id=TaskId("formed"),
        client="local",
        provider="vtrix",
        model=MODEL,
        bucket="bucket",
        params=dict(valid.params),
        notify=(callback_entry(url, VTRIX),),
        created_at=now,
        due_at=now,
        deadline_at=now + timedelta(hours=1),
    )
    await store.intake.add(task, valid.blobs, None)


async def tried(at: Service, task_id: str) -> bool:
    """Return whether a delivery of a task was tried in vain."""
    return any(row["kind"] == "attempt" and row["outcome"] != "delivered" for row in await at.history(task_id))


async def dead_letters(at: Service) -> int:
    """Return the number of dead letters."""
    found = (await at.http.get("/v1/deliveries", params={"status": "dead"})).raise_for_status().json()["data"]
    return len(found)
