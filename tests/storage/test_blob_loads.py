"""The blobs of tasks that are submitted at the same time are loaded together."""

import asyncio
from collections.abc import Sequence

import pytest

from service.domain.task import TaskId
from service.storage import Store
from service.storage.blob_store import MAX_REMEMBERED, SqlBlobStore, TasksWithoutBlobs
from tests.storage.builders import a_blob, a_task
from tests.storage.emitted import emitted


async def test_loads_at_the_same_time_share_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each caller gets the blobs of its own task, shared or not, and the transactions are fewer than the tasks."""
    await store.intake.add(a_task("one"), [a_blob(data=b"a" * 5000)], None)
    await store.intake.add(a_task("two"), [a_blob(data=b"a" * 5000)], None)
    await store.intake.add(a_task("none"), [], None)
    counted: list[int] = []
    blobs = SqlBlobStore(store._database, TasksWithoutBlobs())
    load = blobs._load

    async def count(task_ids: Sequence[TaskId]) -> object:
        counted.append(len(task_ids))
        return await load(task_ids)

    monkeypatch.setattr(blobs._loads, "_commit", count)
    first, second, third = await asyncio.gather(*map(blobs.load, map(TaskId, ("one", "two", "none"))))
    assert [blob.data for blob in first.values()] == [blob.data for blob in second.values()] == [b"a" * 5000]
    assert third == {}
    assert counted == [3]


async def test_task_without_blobs_is_not_read(store: Store) -> None:
    """The process that has stored such a task knows it, once; a task with blobs and one of another process are read."""
    await store.intake.add(a_task("none"), [], None)
    await store.intake.add(a_task("one"), [a_blob()], None)
    with emitted(store) as statements:
        assert await store.blobs.load(TaskId("none")) == {}
    assert statements == []
    with emitted(store) as statements:
        assert set(await store.blobs.load(TaskId("one"))) == {"images.0"}
        assert await store.blobs.load(TaskId("none")) == await store.blobs.load(TaskId("elsewhere")) == {}
    assert len(statements) == 3


def test_remembered_tasks_are_bounded() -> None:
    """The oldest ones are dropped."""
    tasks = TasksWithoutBlobs()
    tasks.add(TaskId(f"t{number}") for number in range(MAX_REMEMBERED + 1))
    assert (tasks.take(TaskId("t0")), tasks.take(TaskId("t1")), tasks.take(TaskId("t1"))) == (False, True, False)


async def test_store_closes_after_a_cancelled_load(store: Store) -> None:
    """A load whose caller was cancelled has returned its connection when the store is closed."""
    await store.intake.add(a_task("one"), [a_blob(data=b"a" * 5000)], None)
    loading = asyncio.create_task(store.blobs.load(TaskId("one")))
    await asyncio.sleep(0)
    loading.cancel()
    await store.close()
    assert loading.cancelled() or loading.done()
    assert store.blobs._loads._worker is None
