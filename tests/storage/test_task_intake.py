"""Where new tasks come in."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import cast

import pytest

from service.domain.errors import Conflict
from service.domain.ports.tasks import IdempotencyKey, TaskFilter
from service.domain.task import Status, Task, TaskId
from service.storage import Store
from service.storage.database import Write
from service.storage.task_intake import MAX_BYTES_PER_COMMIT, MAX_TASKS_PER_COMMIT, MIN_BYTES_FOR_OWN_COMMIT
from tests.storage.builders import a_task, an_input, stored
from tests.storage.conftest import OpenStore

KEY = IdempotencyKey(key="once", digest="body-1")


async def test_task_comes_back_as_it_went_in(store: Store) -> None:
    """Every field survives, times to the microsecond, text with NUL and emoji included."""
    task = a_task(
        params={"prompt": "a\0b 🎬 \ud800", "seed": 2**60}, metadata={"chat": 42}, notify=({"handler": "webhook"},)
    )
    assert await store.intake.add(task, [], None) == task
    assert await stored(store) == task


async def test_inputs_come_back_by_place(store: Store) -> None:
    """Blobs are kept byte for byte under their place."""
    picture, payload = (
        an_input(data=bytes(range(256)) * 1000),
        an_input("payload", "chat \ud83d".encode("utf-8", "surrogatepass")),
    )
    await store.intake.add(a_task(), [picture, payload], None)
    assert await store.blobs.load(TaskId("t1")) == {"images.0": picture, "payload": payload}
    assert await store.blobs.payload(TaskId("t1")) == "chat \ud83d"


async def test_no_payload_is_none(store: Store) -> None:
    """A task without a payload has none, as has an unknown task."""
    await store.intake.add(a_task(), [an_input()], None)
    assert await store.blobs.payload(TaskId("t1")) is None
    assert await store.blobs.load(TaskId("unknown")) == {}


async def test_same_key_gives_the_first_task(store: Store) -> None:
    """A known key with the same body gives the first task as it is now, and stores nothing."""
    first = await store.intake.add(a_task("t1"), [], KEY)
    async with store.units_of_work.transaction() as transaction:
        await transaction.save([replace(first, note="seen")])
    again = await store.intake.add(a_task("t2"), [an_input()], KEY)
    assert again == replace(first, note="seen")
    assert await store.queries.task(TaskId("t2")) is None
    assert await store.blobs.load(TaskId("t2")) == {}


async def test_same_key_with_another_body_is_a_conflict(store: Store) -> None:
    """A known key with another body is refused, and nothing is stored."""
    await store.intake.add(a_task("t1"), [], KEY)
    with pytest.raises(Conflict):
        await store.intake.add(a_task("t2"), [], replace(KEY, digest="body-2"))
    assert await store.queries.task(TaskId("t2")) is None


async def test_keys_of_clients_are_apart(store: Store) -> None:
    """Two clients may use the same key for different things."""
    await store.intake.add(a_task("t1"), [], KEY)
    other = a_task("t2", client="berta")
    assert await store.intake.add(other, [], replace(KEY, digest="body-2")) == other


async def test_tasks_without_key_are_never_equal(store: Store) -> None:
    """Without a key, equal requests are different tasks."""
    await store.intake.add(a_task("t1"), [], None)
    await store.intake.add(a_task("t2"), [], None)
    assert len(await store.queries.tasks(TaskFilter())) == 2


async def test_race_of_equal_keys_has_one_winner(store: Store, open_another: OpenStore) -> None:
    """Of many equal requests at once, over two processes, one is stored and all get it."""
    stores = [store, open_another()]
    tasks = [a_task(f"t{number}") for number in range(12)]
    added = [stores[number % 2].intake.add(task, [an_input()], KEY) for number, task in enumerate(tasks)]
    winners = {task.id for task in await asyncio.gather(*added)}
    assert len(winners) == 1
    assert [task.id for task in await store.queries.tasks(TaskFilter())] == list(winners)


async def test_new_task_rings_submit_once_it_is_durable(store: Store, open_another: OpenStore) -> None:
    """Whoever waits for `submit` wakes, and finds the task."""
    waiting = asyncio.create_task(store.signals.wait("submit", 10))
    await store.intake.add(a_task(), [], None)
    assert await waiting
    found = await open_another().queries.task(TaskId("t1"))
    assert found is not None
    assert found.status is Status.QUEUED


def counted_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that every write transaction of `store` adds to from now on."""
    commits: list[int] = []
    writing = store._database.writing

    def counting() -> AbstractAsyncContextManager[Write]:
        commits.append(1)
        return writing()

    monkeypatch.setattr(store._database, "writing", counting)
    return commits


async def test_tasks_of_one_moment_share_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while a commit is running shares the next ones, each task with its own blobs."""
    commits = counted_commits(store, monkeypatch)
    count = 2 * MAX_TASKS_PER_COMMIT + 1
    blobs = [an_input(data=f"picture {number}".encode()) for number in range(count)]
    await asyncio.gather(*(store.intake.add(a_task(f"t{n}"), [blobs[n]], None) for n in range(count)))
    assert len(commits) <= 4
    for number in range(count):
        assert await store.blobs.load(TaskId(f"t{number}")) == {"images.0": blobs[number]}


async def test_media_of_one_commit_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks share a commit only as long as their media make it no longer than others may wait."""
    commits = counted_commits(store, monkeypatch)
    media, fit = an_input(data=bytes(MIN_BYTES_FOR_OWN_COMMIT)), MAX_BYTES_PER_COMMIT // MIN_BYTES_FOR_OWN_COMMIT
    await asyncio.gather(*(store.intake.add(a_task(f"t{number}"), [media], None) for number in range(2 * fit + 1)))
    assert len(commits) == 3


async def test_large_media_hold_up_nobody_elses_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task with much media is committed for itself."""
    commits = counted_commits(store, monkeypatch)
    large = an_input(data=bytes(MIN_BYTES_FOR_OWN_COMMIT + 1))
    await asyncio.gather(*(store.intake.add(a_task(f"t{number}"), [large], None) for number in range(3)))
    assert len(commits) == 3
    assert await store.blobs.load(TaskId("t2")) == {"images.0": large}


async def test_equal_and_clashing_keys_in_one_commit(store: Store) -> None:
    """Of equal keys one task is stored and all get it; another body is a conflict, and harms none of its neighbours."""
    other = replace(KEY, digest="body-2")
    wanted = [("t1", KEY), ("t2", KEY), ("t3", other), ("t4", None), ("t5", replace(KEY, key="twice"))]
    adding = [store.intake.add(a_task(name), [an_input()], key) for name, key in wanted]
    outcomes = await asyncio.gather(store.intake.add(a_task("t0"), [], None), *adding, return_exceptions=True)
    kept = [outcome.id if isinstance(outcome, Task) else type(outcome).__name__ for outcome in outcomes]
    assert kept == ["t0", "t1", "t1", "Conflict", "t4", "t5"]
    assert {task.id for task in await store.queries.tasks(TaskFilter())} == {"t0", "t1", "t4", "t5"}
    assert await store.blobs.load(TaskId("t2")) == {}


async def test_a_task_that_cannot_be_stored_takes_none_along(store: Store) -> None:
    """One that the database refuses is its own caller's error; those of the same commit are stored."""
    bad = replace(an_input(), data=cast("bytes", object()))
    blobs = [an_input(), an_input(), bad, an_input()]
    adding = [store.intake.add(a_task(f"t{number}"), [blob], None) for number, blob in enumerate(blobs)]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert [isinstance(outcome, Task) for outcome in outcomes] == [True, True, False, True]
    assert {task.id for task in await store.queries.tasks(TaskFilter())} == {"t0", "t1", "t3"}
