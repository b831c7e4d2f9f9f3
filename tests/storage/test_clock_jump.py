"""When the clock was put back, what waits for the old time is due by the new one."""

from service.domain.ports.tasks import DeliveryView
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
)

BACK = NOW - HOUR


async def test_what_waits_for_the_old_time_is_due_by_the_new_one(store: Store) -> None:
    """Tasks at the upstream, queued tasks and deliveries come at once; what has ended is left alone."""
    running = a_task("t1", status=Status.IN_PROGRESS, upstream_id=UpstreamId("u1"), due_at=NOW + SECOND)
    expired = a_task("t2", status=Status.EXPIRED, upstream_id=UpstreamId("u2"), due_at=NOW + MINUTE)
    event = an_event()
    await add_tasks(store, running, expired, a_task("t3"))
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock({running.id})
        await transaction.append([event], [a_delivery(event)])
    assert await store.clock_jump_repair.clock_jump_repair(now=BACK, until=BACK + LEASE) == 3
    polled = await store.tasks.claim_polls(now=BACK, until=BACK + LEASE, limit=9)
    queued = await store.tasks.claim_submissions(now=BACK, until=BACK + LEASE, limit=9, limits=NO_LIMITS)
    claimed = await claim_deliveries(store, now=BACK)
    assert [task.id for task in polled] == ["t1"]
    assert [task.id for task in queued] == ["t3"]
    assert [claim.id for claim in claimed] == ["e1-log"]


async def test_no_lease_outlives_the_clock_that_it_was_measured_by(store: Store) -> None:
    """A dead worker's lease runs out within a lease; a living one's is still held, and may be renewed."""
    event = an_event()
    await add_tasks(store, a_task("t1"))
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock({TaskId("t1")})
        await transaction.append([event], [a_delivery(event)])
    [task] = await store.tasks.claim_submissions(now=NOW, until=NOW + LEASE, limit=1, limits=NO_LIMITS)
    [claim] = await claim_deliveries(store, limit=1)
    await store.clock_jump_repair.clock_jump_repair(now=BACK, until=BACK + LEASE)
    assert await store.tasks.sweep(now=BACK + LEASE - SECOND) == []
    assert [lost.id for lost in await store.tasks.sweep(now=BACK + LEASE)] == ["t1"]
    assert await store.tasks.renew({task.id: task.fence}, until=BACK + 2 * LEASE) == {"t1"}
    assert await store.deliveries.renew({claim.id: claim.fence}, until=BACK + 2 * LEASE) == {claim.id}


async def test_what_is_due_already_is_not_touched(store: Store) -> None:
    """A recall changes nothing that does not wait, however often it comes."""
    event = an_event()
    await add_tasks(store, a_task("t1"))
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock({TaskId("t1")})
        await transaction.append([event], [a_delivery(event)])
    for _ in range(2):
        assert await store.clock_jump_repair.clock_jump_repair(now=NOW, until=NOW + LEASE) == 0
    delivery = await store.deliveries.delivery("e1-log")
    assert isinstance(delivery, DeliveryView)
    assert await store.queries.task(TaskId("t1")) == a_task("t1")
