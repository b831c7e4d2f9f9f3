"""Readiness, gauges, run-time statistics and retention."""

import asyncio
from datetime import timedelta

import pytest

from service.domain.poll_schedule import CallbackStats
from service.domain.ports.unit_of_work import PollRow, RunTime
from service.domain.task import Status, TaskId
from service.storage import Store, retention
from tests.storage.builders import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    a_blob,
    a_task,
    add_callbacks,
    add_deliveries,
    add_tasks,
    an_attempt,
    an_entry,
    claim_deliveries,
    claim_polls,
    in_progress,
    replay,
)
from tests.support.history import history_of

NOTHING = timedelta(0)
DAY = 24 * HOUR


async def test_migrated_database_is_ready(store: Store) -> None:
    """A database with the newest schema is ready."""
    assert await store.health.ready() is None


async def test_gauges_of_an_empty_store_are_zero(store: Store) -> None:
    """An empty store has no counts and no ages."""
    gauges = await store.health.gauges(NOW)
    assert (gauges.tasks, gauges.attempts, gauges.callbacks, gauges.in_doubt) == ({}, {}, {}, 0)
    assert gauges.deliveries == {"pending": 0, "delivered": 0, "dead": 0}
    assert (gauges.oldest_unsettled, gauges.oldest_due) == (NOTHING, NOTHING)


async def test_gauges_state_unknown_status_words_and_since_when(store: Store) -> None:
    """The age of a word is that of its first task; only the twenty oldest words are listed."""
    words = [("warming_up", NOW - HOUR), ("warming_up", NOW - MINUTE), ("cooling", NOW), (None, None)]
    tasks = [in_progress(f"t{n}", status_word=word, status_since=at) for n, (word, at) in enumerate(words)]
    many = [in_progress(f"m{n}", status_word=f"word{n}", status_since=NOW - SECOND) for n in range(30)]
    await add_tasks(store, *tasks)
    assert (await store.health.gauges(NOW)).status_words == {"warming_up": HOUR, "cooling": NOTHING}
    await add_tasks(store, *many)
    found = (await store.health.gauges(NOW)).status_words
    assert (len(found), found["warming_up"]) == (20, HOUR)


async def test_gauges_count_by_status_and_outcome(store: Store) -> None:
    """Tasks, deliveries, attempts and callbacks are counted by status, outcome and verdict."""
    await add_tasks(store, a_task("t1"), a_task("t2"), in_progress("t3", status=Status.IN_DOUBT))
    await add_deliveries(store, "a", "b", "c")
    [dead], [good] = [await claim_deliveries(store, name) for name in "ab"]
    await store.deliveries.finish([an_attempt(dead, "dead", fault="ours"), an_attempt(good)])
    await add_callbacks(store, an_entry("d1"), an_entry("d2"), an_entry("d3", verdict="hint"))
    gauges = await store.health.gauges(NOW)
    assert gauges.tasks == {"queued": 2, "in_doubt": 1}
    assert gauges.in_doubt == 1
    assert gauges.deliveries == {"pending": 1, "delivered": 1, "dead": 1}
    assert gauges.attempts == {("a", "dead"): 1, ("b", "delivered"): 1}
    assert gauges.callbacks == {"recorded": 2, "hint": 1}


async def test_oldest_unsettled_task_counts_from_its_beginning(store: Store) -> None:
    """Settled and expired tasks do not wait; the oldest of the others gives the age."""
    await add_tasks(
        store,
        in_progress("t1", created_at=NOW - HOUR),
        a_task("t2", created_at=NOW - 2 * HOUR, status=Status.COMPLETED),
        a_task("t3", created_at=NOW - 3 * HOUR, status=Status.EXPIRED),
    )
    assert (await store.health.gauges(NOW)).oldest_unsettled == HOUR


async def test_oldest_due_row_has_no_lease(store: Store) -> None:
    """Rows with a valid lease and rows due later do not count."""
    await add_tasks(store, in_progress("t1", due_at=NOW - HOUR), a_task("t2", due_at=NOW + HOUR))
    assert (await store.health.gauges(NOW)).oldest_due == HOUR
    await claim_polls(store)
    assert (await store.health.gauges(NOW)).oldest_due == NOTHING
    assert (await store.health.gauges(NOW + MINUTE)).oldest_due == HOUR + MINUTE
    await add_deliveries(store, "log")
    assert (await store.health.gauges(NOW + 2 * SECOND)).oldest_due == 2 * SECOND


async def test_newest_run_times_of_each_bucket(store: Store) -> None:
    """Only the newest samples of each bucket are returned, oldest first."""
    samples = [RunTime(bucket=f"b{n % 2}", seconds=n, called_back=n % 3 == 0, at=NOW + n * SECOND) for n in range(10)]
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_run_times(samples)
    assert await store.run_time_stats.run_times(per_bucket=2) == samples[6:]


async def test_newest_callbacks_are_counted(store: Store) -> None:
    """The newest samples of all buckets are counted, and those without a callback."""
    assert await store.run_time_stats.callback_stats(newest=5) == CallbackStats(count=0, lost=0)
    samples = [RunTime(bucket=f"b{n % 2}", seconds=n, called_back=n != 7, at=NOW - n * SECOND) for n in range(10)]
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_run_times(samples)
    assert await store.run_time_stats.callback_stats(newest=3) == CallbackStats(count=3, lost=1)
    assert await store.run_time_stats.callback_stats(newest=2) == CallbackStats(count=2, lost=0)
    assert await store.run_time_stats.callback_stats(newest=99) == CallbackStats(count=10, lost=1)


async def _fill(store: Store) -> None:
    """Store three tasks with rows in every table: one settled long ago, one settled recently, one open."""
    await store.intake.add(a_task("old", status=Status.COMPLETED, settled_at=NOW), [a_blob()], None)
    await store.intake.add(a_task("new", status=Status.COMPLETED, settled_at=NOW + 2 * DAY), [a_blob()], None)
    await store.intake.add(in_progress("open"), [a_blob()], None)
    for task_id in ("old", "new", "open"):
        await add_deliveries(store, "log", events=[f"e-{task_id}"], task_id=task_id)
        await add_callbacks(store, an_entry(f"d-{task_id}", task_id=TaskId(task_id)))
        async with store.units_of_work.transaction() as transaction:
            await transaction.add_polls([PollRow(task_id=TaskId(task_id), at=NOW, outcome="in_progress")])
    await store.deliveries.finish([an_attempt(claim) for claim in await claim_deliveries(store)])


async def _kinds(store: Store, task_id: str) -> list[str]:
    return sorted(row["kind"] for row in await history_of(store.queries, task_id))


async def test_prune_deletes_rows_of_long_settled_tasks(store: Store) -> None:
    """Callbacks, polls, attempts and inputs of the old task are deleted; its task, events and deliveries stay."""
    await _fill(store)
    assert await store.retention.prune(before=NOW + DAY) == 4
    assert await _kinds(store, "old") == ["created", "delivery", "event"]
    assert await store.queries.task(TaskId("old")) is not None
    assert await store.blobs.load(TaskId("old")) == {}
    for task_id in ("new", "open"):
        assert await _kinds(store, task_id) == ["attempt", "callback", "created", "delivery", "event", "poll"]
        assert len(await store.blobs.load(TaskId(task_id))) == 1
    assert await store.retention.prune(before=NOW + DAY) == 0


async def test_prune_deletes_quarantined_callbacks_and_run_times_by_age(store: Store) -> None:
    """Rows that belong to no task are deleted by their own age."""
    await add_callbacks(store, an_entry("d1"), an_entry("d2", received_at=NOW + 2 * DAY))
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_run_times(
            [RunTime(bucket="b", seconds=1, called_back=True, at=NOW + n * 2 * DAY) for n in (0, 1)]
        )
    assert await store.retention.prune(before=NOW + DAY) == 2
    assert (await store.health.gauges(NOW)).callbacks == {"recorded": 1}
    assert len(await store.run_time_stats.run_times(per_bucket=9)) == 1


async def test_prune_keeps_the_payload_of_a_pending_delivery(store: Store) -> None:
    """The payload of an old task stays while a delivery of it is pending."""
    payload = a_blob("payload", b"mine")
    await store.intake.add(a_task("old", status=Status.COMPLETED, settled_at=NOW), [payload], None)
    await add_deliveries(store, "log", task_id="old")
    assert await store.retention.prune(before=NOW + DAY) == 0
    [claim] = await claim_deliveries(store)
    assert claim.payload == "mine"


async def test_prune_keeps_the_attempts_of_a_pending_delivery(store: Store) -> None:
    """What was tried so far stays readable until the delivery of an old task is delivered or dead."""
    await store.intake.add(a_task("old", status=Status.COMPLETED, settled_at=NOW), [], None)
    await add_deliveries(store, "log", task_id="old")
    [claim] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(claim, "retry", due_at=NOW + 3 * DAY)])
    assert await store.retention.prune(before=NOW + 2 * DAY) == 0
    assert await _kinds(store, "old") == ["attempt", "created", "delivery", "event"]
    [claim] = await claim_deliveries(store, now=NOW + 3 * DAY)
    await store.deliveries.finish([an_attempt(claim, finished_at=NOW + 3 * DAY)])
    assert await store.retention.prune(before=NOW + 2 * DAY) == 1


async def test_attempt_numbers_continue_after_a_prune(store: Store) -> None:
    """A delivery whose attempts were deleted can be replayed and tried again."""
    await _fill(store)
    await store.retention.prune(before=NOW + DAY)
    await replay(store, "e-old-log")
    [claim] = await claim_deliveries(store)
    assert await store.deliveries.finish([an_attempt(claim)]) == {"e-old-log"}
    attempts = [row["attempt"] for row in await history_of(store.queries, "old") if row["kind"] == "attempt"]
    assert attempts == [2]


async def test_reads_continue_during_a_write(store: Store) -> None:
    """A reader sees the last committed state at once, without waiting for the writer."""
    await add_tasks(store, a_task())
    async with store.units_of_work.transaction() as transaction:
        await transaction.save([a_task(note="not yet")])
        async with asyncio.timeout(10):
            seen = await store.queries.task(TaskId("t1"))
    assert seen == a_task()


async def test_prune_goes_on_until_nothing_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It deletes in short transactions, as many as it needs."""
    monkeypatch.setattr(retention, "ROWS_PER_DELETE", 2)
    await add_callbacks(store, *(an_entry(f"d{number}") for number in range(5)))
    assert await store.retention.prune(before=NOW + DAY) == 5


async def test_prune_keeps_the_inputs_of_an_expired_task_that_is_polled(store: Store) -> None:
    """A later result is still accepted, and its deliveries need the payload; without a poll nothing comes any more."""
    for name, due_at in (("polled", NOW + 9 * DAY), ("left", None)):
        task = in_progress(name, status=Status.EXPIRED, due_at=due_at, deadline_at=NOW)
        await store.intake.add(task, [a_blob("payload", b"mine")], None)
    assert await store.retention.prune(before=NOW + DAY) == 1
    assert await store.blobs.payload(TaskId("polled")) == "mine"
