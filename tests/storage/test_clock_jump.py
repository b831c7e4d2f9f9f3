"""After the system clock moved backwards, rows that wait for the old time are due at the new one."""

from service.domain.ports.deliveries import DeliveryView
from service.domain.task import Status, TaskId, UpstreamId
from service.storage import Store
from tests.storage.builders import (
    HOUR,
    LEASE,
    MINUTE,
    NO_LIMITS,
    NOW,
    SECOND,
    a_delivery,
    a_task,
    add_tasks,
    an_event,
    claim_deliveries,
    in_progress,
)

BACK = NOW - HOUR


async def test_rows_due_later_are_due_now(store: Store) -> None:
    """Tasks at the provider, queued tasks and deliveries are due at once; ended ones do not change."""
    running = a_task("t1", status=Status.IN_PROGRESS, upstream_id=UpstreamId("u1"), due_at=NOW + SECOND)
    expired = a_task("t2", status=Status.EXPIRED, upstream_id=UpstreamId("u2"), due_at=NOW + MINUTE)
    event = an_event()
    await add_tasks(store, running, expired, a_task("t3"))
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock({running.id})
        await transaction.append([event], [a_delivery(event)])
    assert await store.clock_jump_repair.repair(now=BACK, until=BACK + LEASE) == 3
    polled = await store.tasks.claim_polls(now=BACK, until=BACK + LEASE, limit=9)
    queued = await store.tasks.claim_submissions(now=BACK, until=BACK + LEASE, limit=9, limits=NO_LIMITS)
    claimed = await claim_deliveries(store, now=BACK)
    assert [task.id for task in polled] == ["t1"]
    assert [task.id for task in queued] == ["t3"]
    assert [claim.id for claim in claimed] == ["e1-log"]


async def test_leases_are_shortened_to_the_new_time(store: Store) -> None:
    """The lease of a crashed worker runs out within one lease; a running worker still holds and renews its own."""
    event = an_event()
    await add_tasks(store, a_task("t1"))
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock({TaskId("t1")})
        await transaction.append([event], [a_delivery(event)])
    [task] = await store.tasks.claim_submissions(now=NOW, until=NOW + LEASE, limit=1, limits=NO_LIMITS)
    [claim] = await claim_deliveries(store, limit=1)
    await store.clock_jump_repair.repair(now=BACK, until=BACK + LEASE)
    assert await store.tasks.sweep(now=BACK + LEASE - SECOND) == []
    assert [lost.id for lost in await store.tasks.sweep(now=BACK + LEASE)] == ["t1"]
    assert await store.tasks.renew({task.id: task.fence}, until=BACK + 2 * LEASE) == {"t1"}
    assert await store.deliveries.renew({claim.id: claim.fence}, until=BACK + 2 * LEASE) == {claim.id}


async def test_delivery_of_a_crashed_worker_is_made_again_within_a_lease(store: Store) -> None:
    """The lease of its delivery ends with the new time, and not an hour later."""
    event = an_event()
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [a_delivery(event)])
    [claim] = await claim_deliveries(store)
    assert await store.clock_jump_repair.repair(now=BACK, until=BACK + LEASE) == 2
    assert await claim_deliveries(store, now=BACK + LEASE - SECOND) == []
    assert [again.id for again in await claim_deliveries(store, now=BACK + LEASE)] == [claim.id]


async def test_due_rows_do_not_change(store: Store) -> None:
    """The repair changes nothing that is due already, even if it runs again."""
    event = an_event()
    await add_tasks(store, a_task("t1"))
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock({TaskId("t1")})
        await transaction.append([event], [a_delivery(event)])
    for _ in range(2):
        assert await store.clock_jump_repair.repair(now=NOW, until=NOW + LEASE) == 0
    delivery = await store.deliveries.delivery("e1-log")
    assert isinstance(delivery, DeliveryView)
    assert await store.queries.task(TaskId("t1")) == a_task("t1")


async def test_watched_tasks_are_polled_at_the_new_time(store: Store) -> None:
    """The progress of a task is asked for every five seconds as before, and no longer than somebody watches it."""
    task = in_progress("t1", due_at=NOW + HOUR, upstream_id=UpstreamId("u1"), polled_at=NOW - SECOND)
    await add_tasks(store, task)
    await store.watched_tasks.watch([task.id], until=NOW + MINUTE)
    for now in (NOW + 6 * SECOND, BACK + 6 * SECOND):
        [claimed] = await store.watched_tasks.claim(now=now, until=now + LEASE, limit=9, every=5 * SECOND)
        assert await store.clock_jump_repair.repair(now=BACK, until=BACK + MINUTE)
        await store.tasks.release({claimed.id: claimed.fence}, due_at=NOW + HOUR)
    assert await store.watched_tasks.prune(now=BACK + MINUTE) == 1


async def test_accepted_submission_ends_a_pause_of_the_old_time(store: Store) -> None:
    """Without credit at the old time: the first accepted submission of the new time ends the pause, as always."""
    await store.credit_pauses.refused(submitted_at=NOW, now=NOW)
    await store.clock_jump_repair.repair(now=BACK, until=BACK + LEASE)
    pause = await store.credit_pauses.current()
    assert pause is not None
    assert (pause.since, pause.holds(BACK), pause.refusals) == (BACK, False, 1)
    assert await store.credit_pauses.accepted(submitted_at=BACK + SECOND)
    assert await store.credit_pauses.current() is None
