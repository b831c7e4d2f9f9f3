"""Watched tasks, waits and the pause without credit, on each database."""

import asyncio
from dataclasses import replace

from service.domain.credit_pause import FIRST_PAUSE, PROBE_TIME
from service.domain.submission_limits import Limits
from service.domain.task import Status, TaskId, UpstreamId
from service.domain.task_wait import WaitRow
from service.storage import Store
from tests.storage.builders import (
    HOUR,
    LEASE,
    MINUTE,
    NOW,
    SECOND,
    a_task,
    add_tasks,
    claim_polls,
    claim_submissions,
    in_progress,
    stored,
)
from tests.storage.conftest import OpenStore
from tests.support.history import history_of

EVERY = 5 * SECOND
T1, T2, T3 = (TaskId(f"t{number}") for number in (1, 2, 3))


async def claim_watched(store: Store, *, after: int, limit: int = 9) -> list[str]:
    """Claim watched tasks so many seconds after their submission, and release them; return their ids."""
    now = NOW + after * SECOND
    claimed = await store.watched_tasks.claim(now=now, until=now + LEASE, limit=limit, every=EVERY)
    for task in claimed:
        assert (await stored(store, task.id)).fence == task.fence
        await store.tasks.release({task.id: task.fence}, due_at=NOW + HOUR)
    return [task.id for task in claimed]


async def test_watched_tasks_are_claimed_in_turn(store: Store) -> None:
    """Each watched task in progress is claimed once in five seconds, the one first that waited longest."""
    tasks = [
        in_progress(each, due_at=NOW + HOUR, upstream_id=UpstreamId(f"up-{each}"), created_at=NOW)
        for each in (T1, T2, T3)
    ]
    await add_tasks(store, *tasks)
    await store.watched_tasks.watch([T1, T2], until=NOW + MINUTE)
    assert await claim_watched(store, after=4) == []
    [first] = await claim_watched(store, after=5, limit=1)
    [second] = await claim_watched(store, after=6)
    assert {first, second} == {T1, T2}
    assert await claim_watched(store, after=9) == []
    assert await claim_watched(store, after=11) == [first, second]
    assert await claim_watched(store, after=60) == []


async def test_a_shorter_watch_does_not_end_a_longer_one(store: Store) -> None:
    """The later end counts, whoever stored it first."""
    await add_tasks(store, in_progress(T1, due_at=NOW + HOUR))
    async with store.units_of_work.transaction() as transaction:
        await transaction.watch({T1: NOW + HOUR})
    await store.watched_tasks.watch([T1], until=NOW + MINUTE)
    assert await claim_watched(store, after=120) == [T1]


async def test_other_tasks_are_not_claimed(store: Store) -> None:
    """Neither queued tasks nor due, leased, freshly polled and ended ones are polled for those who watch."""
    await add_tasks(
        store,
        a_task("queued"),
        in_progress("due", due_at=NOW, upstream_id=UpstreamId("a")),
        in_progress("leased", due_at=NOW + HOUR, leased_until=NOW + HOUR, upstream_id=UpstreamId("b")),
        in_progress("fresh", due_at=NOW + HOUR, polled_at=NOW + 4 * SECOND, upstream_id=UpstreamId("c")),
        in_progress("ended", status=Status.COMPLETED, due_at=None, upstream_id=UpstreamId("d")),
        in_progress("right", due_at=NOW + HOUR, upstream_id=UpstreamId("e")),
    )
    ids = [TaskId(name) for name in ("queued", "due", "leased", "fresh", "ended", "right", "unknown")]
    await store.watched_tasks.watch(ids, until=NOW + MINUTE)
    assert await claim_watched(store, after=6) == ["right"]
    assert await store.watched_tasks.prune(now=NOW) == 2
    assert await store.watched_tasks.prune(now=NOW + MINUTE) == 5


async def test_two_processes_claim_different_watched_tasks(store: Store, open_another: OpenStore) -> None:
    """Claims of two processes at the same time never lease a task twice."""
    ids = [TaskId(f"t{number:02}") for number in range(20)]
    await add_tasks(store, *(in_progress(each, due_at=NOW + HOUR, upstream_id=UpstreamId(each)) for each in ids))
    await store.watched_tasks.watch(ids, until=NOW + MINUTE)
    now, other = NOW + 6 * SECOND, open_another()
    claims = [each.watched_tasks.claim(now=now, until=now + LEASE, limit=7, every=EVERY) for each in (store, other)]
    found = [task.id for claimed in await asyncio.gather(*claims) for task in claimed]
    assert len(found) == len(set(found))
    assert len(found) >= 7


async def test_waits_are_added_up(store: Store) -> None:
    """A row counts the waits of one task for one reason; the first time and the last detail stay."""
    row = WaitRow(task_id="t1", reason="throttled", count=1, first_at=NOW, last_at=NOW, detail="x")
    later = replace(row, first_at=NOW + SECOND, last_at=NOW + SECOND, count=2, detail=None)
    await add_tasks(store, a_task(T1))
    for rows in ([row], [later, replace(later, reason="not_sent", detail="y")]):
        async with store.units_of_work.transaction() as transaction:
            await transaction.add_task_waits(rows)
    history = await history_of(store.queries, T1)
    found = [(each["reason"], each["count"], each["detail"]) for each in history if each["kind"] == "wait"]
    assert found == [("throttled", 3, "x"), ("not_sent", 2, "y")]
    assert (history[1]["at"], history[1]["last_at"]) == (history[0]["at"], "2026-05-06T12:09:43.123Z")


async def test_pause_stops_claims_and_lets_one_try(store: Store, open_another: OpenStore) -> None:
    """During the pause nothing is claimed; after it one task in one process, until that is known to be accepted."""
    other = open_another()
    await add_tasks(store, a_task(T1, tries=1), a_task(T2, created_at=NOW + SECOND), a_task(T3, client="bob"))
    pause = await store.credit_pauses.refused(submitted_at=NOW, now=NOW)
    assert (pause.refusals, pause.resume_at) == (1, NOW + FIRST_PAUSE)
    assert await claim_submissions(other, now=NOW + 59 * SECOND) == []
    assert await other.tasks.limit_reached(now=NOW, limits=Limits()) == "no_credit"
    at = NOW + FIRST_PAUSE
    both = await asyncio.gather(*(claim_submissions(each, now=at) for each in (store, other)))
    [tried] = [task for claimed in both for task in claimed]
    assert tried.id == T3  # the oldest of those that were refused least often
    assert await claim_submissions(store, now=at + PROBE_TIME - SECOND) == []
    assert not await other.credit_pauses.accepted(submitted_at=NOW - SECOND)
    assert await other.credit_pauses.accepted(submitted_at=at)
    assert {task.id for task in await claim_submissions(store, now=at)} == {T1, T2}
    assert await store.credit_pauses.current() is None


async def test_refusals_of_one_batch_count_once(store: Store) -> None:
    """Submissions that began before the first refusal was known do not lengthen the pause."""
    first = await store.credit_pauses.refused(submitted_at=NOW, now=NOW + SECOND)
    assert await store.credit_pauses.refused(submitted_at=NOW, now=NOW + 2 * SECOND) == first
    second = await store.credit_pauses.refused(submitted_at=NOW + MINUTE, now=NOW + 2 * MINUTE)
    assert (second.refusals, second.since) == (2, first.since)
    assert second.resume_at == NOW + 2 * MINUTE + 2 * FIRST_PAUSE


async def test_clock_that_moved_back_ends_the_pause(store: Store) -> None:
    """A pause whose end is further away than any pause is long does not hold."""
    await add_tasks(store, a_task(T1, created_at=NOW - 2 * HOUR, due_at=NOW - 2 * HOUR, deadline_at=NOW + HOUR))
    await store.credit_pauses.refused(submitted_at=NOW, now=NOW)
    assert len(await claim_submissions(store, now=NOW - HOUR)) == 1


async def test_on_no_credit_fail_ignores_the_pause(store: Store) -> None:
    """With ON_NO_CREDIT=fail a stored pause of another time does not hold anything back."""
    await add_tasks(store, a_task(T1))
    await store.credit_pauses.refused(submitted_at=NOW, now=NOW)
    assert len(await claim_submissions(store, limits=Limits(credit_waits=False))) == 1
    assert await claim_polls(store) == []
