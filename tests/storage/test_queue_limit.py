"""The unfinished tasks of one client hold a limited number of bytes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import insert, select

from service.domain.blob import Blob
from service.domain.errors import Conflict, QueueFull
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Status, Task, TaskId
from service.storage import Store, queue_limit
from service.storage.queue_limit import MAX_QUEUED_BYTES, MIN_COUNTED_BYTES, counted_bytes, tasks_above_limit
from service.storage.tables import tasks
from service.storage.task_rows import task_values
from tests.storage.builders import NOW, a_blob, a_task, stored
from tests.storage.conftest import OpenStore

BRIEFLY = 0.3
"""Seconds after which a transaction counts as waiting for another one."""

LIMIT = 100_000
PICTURE = a_blob(data=b"p" * 30_000)
"""Three of them fit, four do not."""

KEY = IdempotencyKey(key="k", digest="d")


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a limit that few bytes reach."""
    monkeypatch.setattr(queue_limit, "MAX_QUEUED_BYTES", LIMIT)


async def add(
    store: Store, task_id: str, blobs: Sequence[Blob] = (PICTURE,), key: IdempotencyKey | None = None, **changes: Any
) -> Task:
    """Store a task."""
    return await store.intake.add(a_task(task_id, **changes), blobs, key)


async def fill(store: Store, count: int = 3, **changes: Any) -> None:
    """Store so many tasks with a picture."""
    for number in range(count):
        await add(store, f"full{number}", **changes)


async def test_queue_of_a_client_is_limited_in_bytes(store: Store) -> None:
    """The first task above the limit is refused, and nothing of it is stored; smaller ones still fit."""
    await fill(store)
    with pytest.raises(QueueFull, match="MB of inputs"):
        await add(store, "t4")
    assert await store.queries.task(TaskId("t4")) is None
    assert await store.blobs.load(TaskId("t4")) == {}
    await add(store, "t5", [a_blob(data=b"p" * 5_000)])


async def test_other_clients_have_their_own_queue(store: Store) -> None:
    """The queue of one client takes nothing from the others."""
    await fill(store)
    await add(store, "t4", client="berta")


@pytest.mark.parametrize("status", Status)
async def test_unfinished_tasks_count(store: Store, status: Status) -> None:
    """Tasks count while they wait or are at the provider; settled and expired ones do not."""
    unfinished = {Status.QUEUED, Status.SUBMITTING, Status.IN_DOUBT, Status.IN_PROGRESS}
    await fill(store, status=status, settled_at=NOW)
    if status in unfinished:
        with pytest.raises(QueueFull):
            await add(store, "t4")
    else:
        await add(store, "t4")


async def test_every_kind_of_bytes_counts(store: Store) -> None:
    """Payload, metadata and parameters count like pictures, and equal pictures count for each task."""
    text = "p" * 30_000
    await add(store, "t1", [], metadata={"note": text})
    await add(store, "t2", [], params={"prompt": text})
    await add(store, "t3", [a_blob("payload", text.encode())])
    with pytest.raises(QueueFull):
        await add(store, "t4")


async def test_small_tasks_are_not_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose media are addresses is stored without a count of the queue, which would cost more than the task."""
    await fill(store)
    monkeypatch.setattr("service.storage.task_intake.tasks_above_limit", lambda *_: pytest.fail("counted"))
    await add(store, "t4", [], params={"images": ["https://example.org/a.png"] * 7, "prompt": "p" * 500})
    assert counted_bytes(a_task(metadata={"note": "p" * MIN_COUNTED_BYTES}), ()) is not None
    assert counted_bytes(a_task(metadata={"note": "p" * (MIN_COUNTED_BYTES - 100)}), ()) is None


async def test_known_key_is_answered_although_the_queue_is_full(store: Store) -> None:
    """A repeat of a stored request returns its task, and another request with its key is a conflict, as always."""
    first = await add(store, "t1", key=KEY)
    await fill(store, 2)
    assert await add(store, "t2", key=KEY) == first
    with pytest.raises(Conflict):
        await add(store, "t3", key=IdempotencyKey(key="k", digest="other"))
    with pytest.raises(QueueFull):
        await add(store, "t4", key=IdempotencyKey(key="new", digest="d"))
    assert await store.queries.task(TaskId("t4")) is None


async def test_refused_key_can_be_used_later(store: Store) -> None:
    """A refusal leaves no trace of its key."""
    await fill(store)
    with pytest.raises(QueueFull):
        await add(store, "t4", key=KEY)
    async with store.units_of_work.transaction() as transaction:
        await transaction.save([a_task("full0", status=Status.COMPLETED, settled_at=NOW)])
    assert (await add(store, "t5", key=KEY)).id == "t5"


async def test_tasks_of_one_commit_count_together(store: Store) -> None:
    """Tasks that arrive together do not exceed the limit, and each caller gets its own answer."""
    adding = [add(store, f"t{number}", client=client) for number in range(8) for client in ("anna",)]
    adding += [add(store, f"b{number}", client="berta") for number in range(2)]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert sum(isinstance(outcome, Task) for outcome in outcomes[:8]) == 3
    assert sum(isinstance(outcome, QueueFull) for outcome in outcomes[:8]) == 5
    assert all(isinstance(outcome, Task) for outcome in outcomes[8:])


async def test_processes_do_not_exceed_the_limit_together(store: Store, open_another: OpenStore) -> None:
    """While one process is about to store a client's task, another one waits with its count."""
    other = open_another()
    await fill(store, 2)
    async with store._database.writing() as write:
        assert await tasks_above_limit(write.connection, [(a_task("t3"), 30_000)]) == set()
        adding = asyncio.create_task(add(other, "t4"))
        await asyncio.wait([adding], timeout=BRIEFLY)
        assert not adding.done()
        row = task_values(a_task("t3")) | {"input_bytes": 30_000}
        await write.connection.execute(insert(tasks), row)
    with pytest.raises(QueueFull):
        await adding


async def test_size_is_stored_with_the_task(store: Store) -> None:
    """Later releases and other processes count the same bytes."""
    await add(store, "t1")
    await add(store, "t2", [])
    async with store._database.reading() as connection:
        rows = await connection.execute(select(tasks.c.id, tasks.c.input_bytes))
        found = {row.id: row.input_bytes for row in rows}
    assert found["t1"] == pytest.approx(30_000, abs=100)
    assert found["t2"] is None
    assert (await stored(store, "t1")).client == "anna"
    assert MAX_QUEUED_BYTES == 512 * 1024 * 1024
