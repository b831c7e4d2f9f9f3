"""The jobs of handlers, on each database."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from service.domain.ports.handler_store import JobClaim, NewJob
from service.storage import Store
from tests.storage.builders import NOW
from tests.storage.conftest import OpenStore

LEASE = timedelta(seconds=60)
JOBS = ("bot/assemble",)


def seconds(number: float) -> datetime:
    """Return a moment so many seconds after the start of the test."""
    return NOW + timedelta(seconds=number)


def a_job(key: str = "album", *, due: float = 2.5, within: float | None = None, data: Any = None) -> NewJob:
    """Return a job that is due then."""
    return NewJob(
        id=f"id-{key}-{due}",
        handler="bot",
        name="assemble",
        key=key,
        data=data,
        due_at=seconds(due),
        within=None if within is None else timedelta(seconds=within),
    )


async def claim(store: Store, at: float, *, jobs: tuple[str, ...] = JOBS, limit: int = 10) -> list[JobClaim]:
    """Claim what is due at that time."""
    return await store.handler_jobs.claim(jobs, now=seconds(at), until=seconds(at) + LEASE, limit=limit)


async def test_job_is_claimed_once_when_it_is_due(store: Store) -> None:
    """Not before, and not by those that do not know it."""
    await store.handler_jobs.schedule(a_job(data={"chat": 7}), now=NOW)
    assert await store.handler_jobs.next_due(JOBS) == seconds(2.5)
    assert await store.handler_jobs.next_due(("bot/other",)) is None
    assert await claim(store, 2.4) == []
    assert await claim(store, 3, jobs=("bot/other", "other/assemble")) == []
    [found] = await claim(store, 3)
    assert (found.handler, found.name, found.key, found.data, found.attempt) == (
        *("bot", "assemble", "album"),
        {"chat": 7},
        1,
    )
    assert await claim(store, 3) == []
    assert await store.handler_jobs.next_due(JOBS) is None
    assert await store.handler_jobs.finish(found)
    assert await claim(store, 100) == []


async def test_each_request_renews_the_time_up_to_the_cap(store: Store) -> None:
    """The quiet window of an album: photos every two seconds are awaited for 12 seconds in all."""
    due = [
        await store.handler_jobs.schedule(a_job(due=at + 2.5, within=12, data=at), now=seconds(at))
        for at in (0, 2, 4, 6, 8, 10, 11)
    ]
    assert due == [seconds(at) for at in (2.5, 4.5, 6.5, 8.5, 10.5, 12, 12)]
    [found] = await claim(store, 12)
    assert (found.data, found.created_at) == (11, NOW)


async def test_job_that_is_requested_while_it_runs_runs_again(store: Store) -> None:
    """A photo that comes too late is not lost, and the new request has a new window."""
    await store.handler_jobs.schedule(a_job(data="first", within=12), now=NOW)
    [first] = await claim(store, 3)
    assert await store.handler_jobs.schedule(a_job(due=16.5, within=12, data="late"), now=seconds(14)) == seconds(16.5)
    assert await claim(store, 20) == []
    assert await store.handler_jobs.finish(first)
    [second] = await claim(store, 20)
    assert (second.data, second.attempt, second.id) == ("late", 1, first.id)
    assert await store.handler_jobs.finish(second)
    assert await claim(store, 100) == []


async def test_failed_attempt_is_due_again(store: Store) -> None:
    """Its attempts are counted, and the last failure is kept without being due."""
    await store.handler_jobs.schedule(a_job(), now=NOW)
    [first] = await claim(store, 3)
    assert await store.handler_jobs.postpone(first, due_at=seconds(5), error="no", now=seconds(3))
    assert await claim(store, 4) == []
    [second] = await claim(store, 5)
    assert second.attempt == 2
    assert await store.handler_jobs.postpone(second, due_at=None, error="never", now=seconds(5))
    assert await claim(store, 1000) == []
    assert await store.handler_jobs.prune(before=seconds(5)) == 0
    assert await store.handler_jobs.prune(before=seconds(6)) == 1


async def test_failed_job_that_is_requested_again_runs(store: Store) -> None:
    """With all its attempts, and a new window."""
    await store.handler_jobs.schedule(a_job(within=12), now=NOW)
    [first] = await claim(store, 3)
    await store.handler_jobs.postpone(first, due_at=None, error="never", now=seconds(3))
    assert await store.handler_jobs.schedule(a_job(due=102.5, within=12), now=seconds(100)) == seconds(102.5)
    [second] = await claim(store, 103)
    assert second.attempt == 1


async def test_request_during_a_failing_attempt_is_kept(store: Store) -> None:
    """The failure postpones it no further."""
    await store.handler_jobs.schedule(a_job(), now=NOW)
    [first] = await claim(store, 3)
    await store.handler_jobs.schedule(a_job(due=6, data="late"), now=seconds(4))
    assert await store.handler_jobs.postpone(first, due_at=None, error="no", now=seconds(5))
    [second] = await claim(store, 6)
    assert (second.data, second.attempt) == ("late", 1)


async def test_lease_that_expires_makes_the_job_due(store: Store) -> None:
    """Its attempt counts; the process that comes back late can neither finish nor postpone nor renew it."""
    await store.handler_jobs.schedule(a_job(), now=NOW)
    [first] = await claim(store, 3)
    assert await store.handler_jobs.renew({first.id: first.fence}, until=seconds(100)) == {first.id}
    assert await claim(store, 99) == []
    [second] = await claim(store, 100)
    assert (second.attempt, second.fence) == (2, first.fence + 1)
    assert not await store.handler_jobs.finish(first)
    assert not await store.handler_jobs.postpone(first, due_at=None, error="no", now=seconds(100))
    assert await store.handler_jobs.renew({first.id: first.fence}, until=seconds(200)) == set()
    await store.handler_jobs.release({first.id: first.fence})
    assert await claim(store, 101) == []
    assert await store.handler_jobs.finish(second)


async def test_released_job_is_due_and_its_attempt_does_not_count(store: Store) -> None:
    """A shutdown releases what it cannot finish."""
    await store.handler_jobs.schedule(a_job(), now=NOW)
    [first] = await claim(store, 3)
    await store.handler_jobs.release({first.id: first.fence})
    [second] = await claim(store, 3)
    assert second.attempt == 1


async def test_waiting_job_can_be_deleted(store: Store) -> None:
    """Once."""
    await store.handler_jobs.schedule(a_job(), now=NOW)
    assert await store.handler_jobs.cancel("bot", "assemble", "album")
    assert not await store.handler_jobs.cancel("bot", "assemble", "album")
    assert await claim(store, 100) == []


async def test_jobs_come_in_the_order_of_their_times(store: Store) -> None:
    """Within the limit of the claim."""
    for due in (5, 1, 3):
        await store.handler_jobs.schedule(a_job(f"key {due}", due=due), now=NOW)
    assert {one.key for one in await claim(store, 10, limit=2)} == {"key 1", "key 3"}
    assert [one.key for one in await claim(store, 10)] == ["key 5"]


async def test_concurrent_claims_of_two_processes_share_the_jobs(open_another: OpenStore) -> None:
    """Each job is claimed by one."""
    stores = [open_another(), open_another()]
    for number in range(20):
        await stores[0].handler_jobs.schedule(a_job(f"key {number}"), now=NOW)
    claims = await asyncio.gather(*(claim(each, 3, limit=7) for each in stores * 3))
    keys = [one.key for each in claims for one in each]
    assert len(keys) == len(set(keys)) > 7


async def test_concurrent_requests_for_one_key_are_one_job(open_another: OpenStore) -> None:
    """Two replicas that receive photos of one album request one job."""
    stores = [open_another(), open_another()]
    await asyncio.gather(
        *(each.handler_jobs.schedule(a_job(due=number / 10), now=NOW) for number, each in enumerate(stores * 5))
    )
    [found] = await claim(stores[0], 3)
    assert found.revision == 10
