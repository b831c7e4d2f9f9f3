"""A create and its repeat by the client's library, without a common key and in two processes: one task."""

import asyncio
from contextlib import AsyncExitStack

from service.domain.ports.tasks import IdempotencyKey, RepeatedRequest, TaskFilter
from service.domain.task import Task
from service.storage import Store
from tests.storage.builders import NOW, SECOND, a_task
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.held_locks import updates_held

PREFIX = "\x1fvideos/abc/"


async def first(store: Store, task_id: str, arrived: int = 0, accepted: int = 1) -> Task:
    """Store the task of an original request that arrived and was accepted so many seconds after NOW."""
    wanted = RepeatedRequest(prefix=PREFIX, since=NOW + arrived * SECOND, repeats=False)
    return await _add(store, task_id, f"{PREFIX}{task_id}", wanted, accepted)


async def repeat(store: Store, task_id: str, accepted: int = 2) -> Task:
    """Store the task of a request that repeats one of the last ten minutes."""
    wanted = RepeatedRequest(prefix=PREFIX, since=NOW - 600 * SECOND, repeats=True)
    return await _add(store, task_id, f"{wanted.repeat_prefix}{task_id}", wanted, accepted)


async def _add(store: Store, task_id: str, key: str, wanted: RepeatedRequest, accepted: int) -> Task:
    task = a_task(task_id, created_at=NOW + accepted * SECOND)
    return await store.intake.add(task, [], IdempotencyKey(key=key, digest="abc", repeated=wanted))


async def ids(store: Store) -> set[str]:
    """Return the ids of all tasks."""
    return {task.id for task in await store.queries.tasks(TaskFilter())}


async def test_repeat_that_was_checked_before_the_first_one_was_stored(store: Store, open_another: OpenStore) -> None:
    """It gets the task of the first one in the transaction that would store its own."""
    assert (await first(store, "t1")).id == "t1"
    assert (await repeat(open_another(), "t2")).id == "t1"
    assert await ids(store) == {"t1"}


async def test_first_one_that_is_stored_after_its_repeat(store: Store, open_another: OpenStore) -> None:
    """A slow process gets the task of the repeat; another equal request, which the client wants too, makes its own."""
    assert (await repeat(open_another(), "t2")).id == "t2"
    assert (await first(store, "t1", accepted=3)).id == "t2"
    assert (await first(store, "t3", arrived=4, accepted=5)).id == "t3"
    assert (await first(store, "t4", accepted=6)).id == "t4"
    assert await ids(store) == {"t2", "t3", "t4"}


async def test_request_after_a_repeat_is_a_new_one(store: Store) -> None:
    """The first one never came: its process ended. What arrives later was meant as another task."""
    await repeat(store, "t2", accepted=2)
    assert (await first(store, "t3", arrived=3, accepted=4)).id == "t3"


async def test_requests_of_others_are_not_found(store: Store) -> None:
    """Another client has its own, though the content is the same."""
    await repeat(store, "t2")
    wanted = RepeatedRequest(prefix=PREFIX, since=NOW, repeats=True)
    key = IdempotencyKey(key=f"{wanted.repeat_prefix}x", digest="abc", repeated=wanted)
    assert (await store.intake.add(a_task("t1", client="berta"), [], key)).id == "t1"


async def test_both_at_once(store: Store, open_another: OpenStore, database: EmptyDatabase) -> None:
    """Neither has seen the other when it looks: the second one waits for the commit of the first."""
    other = open_another()
    async with AsyncExitStack() as held:
        if store._database.address.postgres:
            await held.enter_async_context(updates_held(database, "tasks", waiting=2))
        adding = [asyncio.create_task(each) for each in (first(store, "t1"), repeat(other, "t2"))]
    tasks = await asyncio.gather(*adding)
    assert len({task.id for task in tasks}) == len(await ids(store)) == 1
