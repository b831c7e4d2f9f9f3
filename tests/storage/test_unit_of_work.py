"""The unit of work: inbox, tasks, events and deliveries in one transaction."""

import asyncio
from dataclasses import replace

import pytest

from service.domain.ports.unit_of_work import PollRow, RunTime
from service.domain.task import EventType, Source, Status, TaskError, TaskId, UpstreamId, Usage
from service.storage import Store
from tests.storage.builders import (
    HOUR,
    NOW,
    SECOND,
    a_delivery,
    a_task,
    add_tasks,
    admitted,
    an_entry,
    an_event,
    claim_deliveries,
    stored,
)
from tests.storage.conftest import OpenStore
from tests.support.history import history_of

LONG_ID = "task:é/" + "v" * 505
"""An id of the greatest length, with characters that mean something in a path."""


async def test_save_writes_every_mutable_field(store: Store) -> None:
    """A saved task is read back with every field."""
    await add_tasks(store, a_task())
    changed = a_task(
        status=Status.FAILED,
        guessed=True,
        unconfirmed=True,
        submission=2,
        tries=1,
        polls=7,
        upstream_id=UpstreamId(LONG_ID),
        params={"prompt": "other"},
        metadata={"a": [1, None]},
        notify=({"handler": "webhook", "secret": "whsec_x"},),
        progress=1.0,
        output=({"type": "video", "url": "https://example.org/v.mp4"},),
        error=TaskError(code="E\0", message="no \ud800 way"),
        warnings=("bgm has no effect",),
        usage=Usage(cost="0.35", discount=0.9),
        settled_by=Source.CALLBACK,
        submitted_at=NOW + SECOND,
        settled_at=NOW + 2 * SECOND,
        due_at=None,
        leased_until=NOW + HOUR,
        fence=4,
        hinted_at=NOW + SECOND,
        hinted_id=UpstreamId("u2"),
        hinted_fact={"status": "completed"},
        polled_at=NOW + SECOND,
        empty_since=NOW + SECOND,
        status_word="warming_up",
        status_since=NOW + SECOND,
        resubmission_of=TaskId("t0"),
        note="waits",
        deadline_at=NOW + 3 * HOUR,
    )
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([changed.id])
        await transaction.save([changed])
    assert await stored(store) == changed


async def test_lock_returns_known_tasks(store: Store) -> None:
    """Unknown ids are left out, repeated ones are returned once."""
    await add_tasks(store, a_task("t2"), a_task("t1"))
    async with store.units_of_work.transaction() as transaction:
        found = await transaction.lock([TaskId("t2"), TaskId("nobody"), TaskId("t1"), TaskId("t2")])
    assert list(found) == ["t1", "t2"]


async def test_lock_blocks_others_until_the_commit(store: Store, open_another: OpenStore) -> None:
    """Concurrent transactions that change one task, in two processes, lose no change."""
    await add_tasks(store, a_task())
    stores = [store, open_another()]

    async def count_up(number: int) -> None:
        async with stores[number % 2].units_of_work.transaction() as transaction:
            found = await transaction.lock([TaskId("t1")])
            await transaction.save([replace(found[TaskId("t1")], polls=found[TaskId("t1")].polls + 1)])

    await asyncio.gather(*(count_up(number) for number in range(20)))
    assert (await stored(store)).polls == 20


async def test_locks_in_any_order_cause_no_deadlock(store: Store, open_another: OpenStore) -> None:
    """Transactions that name the same tasks in opposite order all succeed."""
    ids = [TaskId(f"t{number}") for number in range(8)]
    await add_tasks(store, *(a_task(task_id) for task_id in ids))
    other = open_another()

    async def touch(which: Store, order: list[TaskId]) -> None:
        async with which.units_of_work.transaction() as transaction:
            assert len(await transaction.lock(order)) == 8

    await asyncio.gather(*(touch(one, order) for one in (store, other) for order in (ids, ids[::-1]) * 5))


async def test_admit_distinguishes_new_and_repeated(store: Store) -> None:
    """The first copy of a callback is new, every other one repeated, within a batch and over batches."""
    async with store.units_of_work.transaction() as transaction:
        results = await admitted(transaction, [an_entry("d1"), an_entry("d2"), an_entry("d1")])
    assert results == ["new", "new", "repeated"]
    async with store.units_of_work.transaction() as transaction:
        assert await admitted(transaction, [an_entry("d3"), an_entry("d2")]) == ["new", "repeated"]
        assert await admitted(transaction, []) == []


async def test_reused_nonce_is_not_a_repeat(store: Store) -> None:
    """A nonce with its own callback is a repeat, with another one it is reused; entries without nonce are new."""
    async with store.units_of_work.transaction() as transaction:
        await admitted(transaction, [an_entry("d1", nonce="n1"), an_entry("d2"), an_entry("d3")])
    async with store.units_of_work.transaction() as transaction:
        results = await admitted(transaction, [an_entry("d1", nonce="n1"), an_entry("d4", nonce="n1"), an_entry("d5")])
    assert results == ["repeated", "nonce_reused", "new"]


async def test_callback_of_a_final_task_is_not_stored(store: Store) -> None:
    """It is settled, also beside one of another task in the same batch; one that only we have failed is not final."""
    guess = a_task("t3", status=Status.FAILED, guessed=True)
    await add_tasks(store, a_task("t1", status=Status.COMPLETED), a_task("t2"), guess)
    entries = [an_entry(f"d{number}", task_id=TaskId(f"t{number}")) for number in (1, 2, 3)]
    async with store.units_of_work.transaction() as transaction:
        found, verdicts = await transaction.receive({entry.task_id for entry in entries}, entries)
    assert (set(found), verdicts) == ({"t1", "t2", "t3"}, ["settled", "new", "new"])
    assert await store.inbox.usage([TaskId("t1")]) == {}


async def test_race_of_equal_callbacks_has_one_new(store: Store, open_another: OpenStore) -> None:
    """Of concurrent equal callbacks in two processes, exactly one is new."""
    stores = [store, open_another()]

    async def admit(number: int) -> str:
        async with stores[number % 2].units_of_work.transaction() as transaction:
            return (await admitted(transaction, [an_entry("d1", nonce="n1")]))[0]

    results = await asyncio.gather(*(admit(number) for number in range(10)))
    assert sorted(results) == ["new"] + ["repeated"] * 9


async def test_callback_of_an_unknown_task_is_stored(store: Store) -> None:
    """A quarantined callback needs no task, and is counted by its verdict."""
    async with store.units_of_work.transaction() as transaction:
        assert await admitted(transaction, [an_entry(task_id=TaskId("nobody"), verdict="unknown_task")]) == ["new"]
    assert (await store.health.gauges(NOW)).callbacks == {"unknown_task": 1}


async def test_error_rolls_everything_back(store: Store) -> None:
    """When the block raises, nothing of it is stored, and nothing is notified."""
    await add_tasks(store, a_task())
    waiting = asyncio.create_task(store.signals.wait("task:t1", 0.05))
    with pytest.raises(RuntimeError, match="half-way"):
        await _write_everything_and_fail(store)
    assert await stored(store) == a_task()
    assert [entry["kind"] for entry in await history_of(store.queries, "t1")] == ["created"]
    assert await claim_deliveries(store) == []
    assert await store.run_time_stats.run_times(per_bucket=10) == []
    assert not await waiting


async def _write_everything_and_fail(store: Store) -> None:
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([TaskId("t1")])
        await admitted(transaction, [an_entry()])
        await transaction.save([a_task(status=Status.COMPLETED)])
        await transaction.append([an_event()], [a_delivery(an_event())])
        await transaction.add_polls([PollRow(task_id=TaskId("t1"), at=NOW, outcome="completed")])
        await transaction.add_run_times([RunTime(bucket="short", seconds=9, called_back=False, at=NOW)])
        transaction.notify(["task:t1"])
        raise RuntimeError("half-way")


async def test_cancelled_transaction_is_rolled_back(store: Store) -> None:
    """A cancelled transaction stores nothing, and the next one succeeds."""
    inside, never = asyncio.Event(), asyncio.Event()

    async def stay() -> None:
        async with store.units_of_work.transaction() as transaction:
            await admitted(transaction, [an_entry()])
            inside.set()
            await never.wait()

    staying = asyncio.create_task(stay())
    await inside.wait()
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    async with store.units_of_work.transaction() as transaction:
        assert await admitted(transaction, [an_entry()]) == ["new"]


async def test_events_are_numbered_in_the_given_order(store: Store) -> None:
    """The log keeps the order within a batch and over transactions, and resumes without loss."""
    for start in (0, 3):
        async with store.units_of_work.transaction() as transaction:
            await transaction.append([an_event(f"e{start + number}") for number in range(3)], [])
    log = await store.events.after(0)
    assert [one.event.id for one in log] == ["e0", "e1", "e2", "e3", "e4", "e5"]
    assert [one.event.id for one in await store.events.after(log[2].seq, limit=2)] == ["e3", "e4"]
    assert await store.events.last() == log[-1].seq


async def test_event_numbers_appear_in_commit_order(store: Store, open_another: OpenStore) -> None:
    """During concurrent writes, a reader that resumes after the highest number gets every event exactly once."""
    stores = [store, open_another()]
    total = 40

    async def append(number: int) -> None:
        async with stores[number % 2].units_of_work.transaction() as transaction:
            await transaction.append([an_event(f"e{number}")], [])

    async def follow() -> list[str]:
        seen: list[str] = []
        last = 0
        while len(seen) < total:
            for one in await store.events.after(last):
                seen.append(one.event.id)
                last = one.seq
        return seen

    async with asyncio.timeout(60):
        following = asyncio.create_task(follow())
        await asyncio.gather(*(append(number) for number in range(total)))
        seen = await following
    assert sorted(seen) == sorted(f"e{number}" for number in range(total))


async def test_log_is_filtered_by_client_task_and_type(store: Store) -> None:
    """Only matching events are returned."""
    rows = [
        an_event("e1"),
        an_event("e2", client="berta"),
        an_event("e3", task_id=TaskId("t2")),
        an_event("e4", type=EventType.PROGRESSED),
    ]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(rows, [])
    found = await store.events.after(0, client="anna", task_id=TaskId("t1"), types=[EventType.COMPLETED])
    assert [one.event for one in found] == [rows[0]]


async def test_append_twice_changes_nothing(store: Store) -> None:
    """A stored event or delivery does not change."""
    for at in (NOW, NOW + HOUR):
        async with store.units_of_work.transaction() as transaction:
            event = an_event(at=at)
            await transaction.append([event], [a_delivery(event, id=f"x-{at}")])
    assert [one.event.at for one in await store.events.after(0)] == [NOW]
    assert [claim.id for claim in await claim_deliveries(store)] == [f"x-{NOW}"]


async def test_large_batch_fits(store: Store) -> None:
    """A batch far over the parameter limits of both databases succeeds, and is returned in order."""
    ids = [f"e{number:05}" for number in range(4000)]
    rows = [an_event(event_id) for event_id in ids]
    async with store.units_of_work.transaction() as transaction:
        results = await admitted(transaction, [an_entry(event_id) for event_id in ids])
        await transaction.append(rows, [a_delivery(row, lane=row.id) for row in rows])
        assert await transaction.lock([TaskId(f"t{number}") for number in range(40_000)]) == {}
    assert results == ["new"] * 4000
    assert [one.event.id for one in await store.events.after(0, limit=5000)] == ids


async def test_notification_comes_after_the_commit(store: Store, open_another: OpenStore) -> None:
    """A notified reader finds what was written."""
    await add_tasks(store, a_task())

    async def read_note() -> str | None:
        assert await store.signals.wait("task:t1", 10)
        found = await open_another().queries.task(TaskId("t1"))
        return found.note if found else None

    reading = asyncio.create_task(read_note())
    async with store.units_of_work.transaction() as transaction:
        await transaction.save([a_task(note="changed")])
        transaction.notify(["task:t1"])
    assert await reading == "changed"
