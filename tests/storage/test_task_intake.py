"""Intake of new tasks and of their blobs."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import cast

import pytest

from service.domain.errors import Conflict
from service.domain.ports.tasks import IdempotencyKey, TaskFilter
from service.domain.sealed_targets import SealedSecret
from service.domain.task import Status, Task, TaskId
from service.storage import Store
from service.storage.database import Write
from service.storage.task_intake import MAX_BYTES_PER_COMMIT, MAX_TASKS_PER_COMMIT, MIN_BYTES_FOR_OWN_COMMIT
from tests.storage.builders import a_blob, a_task, stored
from tests.storage.conftest import OpenStore

KEY = IdempotencyKey(key="once", digest="body-1")


async def test_task_is_stored_unchanged(store: Store) -> None:
    """Every field is stored, times to the microsecond, text with NUL and emoji included."""
    task = a_task(
        params={"prompt": "a\0b 🎬 \ud800", "seed": 2**60}, metadata={"chat": 42}, notify=({"handler": "webhook"},)
    )
    assert await store.intake.add(task, [], None) == task
    assert await stored(store) == task


async def test_blobs_are_loaded_by_place(store: Store) -> None:
    """Blobs are stored byte for byte under their place."""
    picture, payload = (
        a_blob(data=bytes(range(256)) * 1000),
        a_blob("payload", "chat \ud83d".encode("utf-8", "surrogatepass")),
    )
    await store.intake.add(a_task(), [picture, payload], None)
    assert await store.blobs.load(TaskId("t1")) == {"images.0": picture, "payload": payload}
    assert await store.blobs.payload(TaskId("t1")) == "chat \ud83d"


async def test_missing_payload_is_none(store: Store) -> None:
    """A task without a payload has none; neither has an unknown task."""
    await store.intake.add(a_task(), [a_blob()], None)
    assert await store.blobs.payload(TaskId("t1")) is None
    assert await store.blobs.load(TaskId("unknown")) == {}


async def test_same_key_returns_the_first_task(store: Store) -> None:
    """A known key with the same body returns the first task as it is now, and stores nothing."""
    first = await store.intake.add(a_task("t1"), [], KEY)
    async with store.units_of_work.transaction() as transaction:
        await transaction.save([replace(first, note="seen")])
    again = await store.intake.add(a_task("t2"), [a_blob()], KEY)
    assert again == replace(first, note="seen")
    assert await store.queries.task(TaskId("t2")) is None
    assert await store.blobs.load(TaskId("t2")) == {}


async def test_same_key_with_another_body_is_a_conflict(store: Store) -> None:
    """A known key with another body is refused, and nothing is stored."""
    await store.intake.add(a_task("t1"), [], KEY)
    with pytest.raises(Conflict):
        await store.intake.add(a_task("t2"), [], replace(KEY, digest="body-2"))
    assert await store.queries.task(TaskId("t2")) is None


async def test_same_key_with_the_same_value_is_no_conflict(store: Store) -> None:
    """A body with other bytes and the same JSON value is the same request; one with another value is not."""
    first = await store.intake.add(a_task("t1"), [], replace(KEY, value_digest="value-1"))
    written = replace(KEY, digest="body-2", value_digest="value-1")
    assert (await store.intake.add(a_task("t2"), [], written)).id == first.id
    with pytest.raises(Conflict):
        await store.intake.add(a_task("t3"), [], replace(written, value_digest="value-2"))


async def test_key_of_the_previous_release_matches_its_own_bytes(store: Store) -> None:
    """A row without the digest of a value is compared by the bytes; two rows without one are not equal for that."""
    await store.intake.add(a_task("t1"), [], KEY)
    assert (await store.intake.add(a_task("t2"), [], replace(KEY, value_digest="value-1"))).id == "t1"
    for other in (None, "value-1"):
        with pytest.raises(Conflict):
            await store.intake.add(a_task("t3"), [], replace(KEY, digest="body-2", value_digest=other))


async def test_keys_of_clients_are_independent(store: Store) -> None:
    """Two clients may use the same key for different tasks."""
    await store.intake.add(a_task("t1"), [], KEY)
    other = a_task("t2", client="berta")
    assert await store.intake.add(other, [], replace(KEY, digest="body-2")) == other


async def test_repeat_returns_the_task_of_its_own_client(store: Store) -> None:
    """A key is looked up for its client alone: each client that repeats it gets its own task, or its own conflict."""
    for name, client in (("t1", "anna"), ("t2", "berta")):
        await store.intake.add(a_task(name, client=client), [], KEY)
    for name, client in (("t1", "anna"), ("t2", "berta")):
        assert (await store.intake.add(a_task("t3", client=client), [], KEY)).id == name
        with pytest.raises(Conflict):
            await store.intake.add(a_task("t4", client=client), [], replace(KEY, digest="body-2"))
    assert (await store.intake.add(a_task("t5", client="carl"), [], replace(KEY, digest="body-3"))).id == "t5"


async def test_tasks_without_key_are_never_equal(store: Store) -> None:
    """Without a key, equal requests are different tasks."""
    await store.intake.add(a_task("t1"), [], None)
    await store.intake.add(a_task("t2"), [], None)
    assert len(await store.queries.tasks(TaskFilter())) == 2


async def test_race_of_equal_keys_has_one_winner(store: Store, open_another: OpenStore) -> None:
    """Of concurrent equal requests in two processes, one is stored and all return it."""
    stores = [store, open_another()]
    tasks = [a_task(f"t{number}") for number in range(12)]
    added = [stores[number % 2].intake.add(task, [a_blob()], KEY) for number, task in enumerate(tasks)]
    winners = {task.id for task in await asyncio.gather(*added)}
    assert len(winners) == 1
    assert [task.id for task in await store.queries.tasks(TaskFilter())] == list(winners)


async def test_new_task_notifies_submit_after_the_commit(store: Store, open_another: OpenStore) -> None:
    """A wait for `submit` ends, and the task can be read."""
    waiting = asyncio.create_task(store.signals.wait("submit", 10))
    await store.intake.add(a_task(), [], None)
    assert await waiting
    found = await open_another().queries.task(TaskId("t1"))
    assert found is not None
    assert found.status is Status.QUEUED


def counted_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which every write transaction of `store` adds an item from now on."""
    commits: list[int] = []
    writing = store._database.writing

    def counting() -> AbstractAsyncContextManager[Write]:
        commits.append(1)
        return writing()

    monkeypatch.setattr(store._database, "writing", counting)
    return commits


async def test_concurrent_tasks_share_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that arrive during a commit share the next ones, each with its own blobs."""
    commits = counted_commits(store, monkeypatch)
    count = 2 * MAX_TASKS_PER_COMMIT + 1
    blobs = [a_blob(data=f"picture {number}".encode()) for number in range(count)]
    await asyncio.gather(*(store.intake.add(a_task(f"t{n}"), [blobs[n]], None) for n in range(count)))
    assert len(commits) <= 4
    for number in range(count):
        assert await store.blobs.load(TaskId(f"t{number}")) == {"images.0": blobs[number]}


async def test_media_of_one_commit_are_limited(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks share a commit only up to MAX_BYTES_PER_COMMIT of media."""
    commits = counted_commits(store, monkeypatch)
    media, fit = a_blob(data=bytes(MIN_BYTES_FOR_OWN_COMMIT)), MAX_BYTES_PER_COMMIT // MIN_BYTES_FOR_OWN_COMMIT
    await asyncio.gather(*(store.intake.add(a_task(f"t{number}"), [media], None) for number in range(2 * fit + 1)))
    assert len(commits) == 3


async def test_task_with_large_media_has_its_own_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task with many bytes of media does not delay the commit of others."""
    commits = counted_commits(store, monkeypatch)
    large = a_blob(data=bytes(MIN_BYTES_FOR_OWN_COMMIT + 1))
    await asyncio.gather(*(store.intake.add(a_task(f"t{number}"), [large], None) for number in range(3)))
    assert len(commits) == 3
    assert await store.blobs.load(TaskId("t2")) == {"images.0": large}


async def test_equal_and_conflicting_keys_in_one_commit(store: Store) -> None:
    """Of equal keys one task is stored and all return it; another body is a conflict of its own caller only."""
    other = replace(KEY, digest="body-2")
    wanted = [("t1", KEY), ("t2", KEY), ("t3", other), ("t4", None), ("t5", replace(KEY, key="twice"))]
    adding = [store.intake.add(a_task(name), [a_blob()], key) for name, key in wanted]
    outcomes = await asyncio.gather(store.intake.add(a_task("t0"), [], None), *adding, return_exceptions=True)
    stored_ids = [outcome.id if isinstance(outcome, Task) else type(outcome).__name__ for outcome in outcomes]
    assert stored_ids == ["t0", "t1", "t1", "KeyReused", "t4", "t5"]
    assert {task.id for task in await store.queries.tasks(TaskFilter())} == {"t0", "t1", "t4", "t5"}
    assert await store.blobs.load(TaskId("t2")) == {}


async def test_task_that_cannot_be_stored_fails_alone(store: Store) -> None:
    """A task that the database refuses is an error of its own caller; the others of the same commit are stored."""
    bad = replace(a_blob(), data=cast("bytes", object()))
    blobs = [a_blob(), a_blob(), bad, a_blob()]
    adding = [store.intake.add(a_task(f"t{number}"), [blob], None) for number, blob in enumerate(blobs)]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert [isinstance(outcome, Task) for outcome in outcomes] == [True, True, False, True]
    assert {task.id for task in await store.queries.tasks(TaskFilter())} == {"t0", "t1", "t3"}


async def test_secrets_of_a_repeat_are_not_stored(store: Store) -> None:
    """Nothing would ever delete them: they belong to a task that does not exist."""
    first, again = (SealedSecret(id=f"s-{name}", task_id=TaskId(name), sealed="gAAAA") for name in ("t1", "t2"))
    await store.intake.add(a_task("t1"), [], KEY, [first])
    assert (await store.intake.add(a_task("t2"), [], KEY, [again])).id == "t1"
    assert list(await store.sealed_secrets.load([first.id, again.id])) == [first.id]
