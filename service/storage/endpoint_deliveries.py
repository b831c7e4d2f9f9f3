"""The deliveries of endpoints: held while one is paused, dropped when one is deleted."""

from datetime import datetime

from sqlalchemy import bindparam, null, select, update

from service.domain.endpoint import DELETED
from service.storage.async_engine import AsyncConnection
from service.storage.attempt_results import LeasedDelivery
from service.storage.bulk_writes import update_many
from service.storage.delivery_tables import IS_PENDING, deliveries, waits_in
from service.storage.dialects import prefer_order_of_indexes
from service.storage.endpoint_tables import endpoints
from service.storage.lookups import distinct_values, in_found

AT_ONCE = 1_000
"""Deliveries that are made due, or dropped, in one transaction."""

HELD = IS_PENDING & deliveries.c.endpoint_id.is_not(None) & deliveries.c.due_at.is_(None)
OF_ENDPOINT = deliveries.c.endpoint_id == bindparam("endpoint")
UNLEASED = deliveries.c.leased_until.is_(None)
HOLD_REST_OF_LANE = update(deliveries).where(
    waits_in(bindparam("this_lane"), bindparam("this_task")), deliveries.c.endpoint_id.is_not(None), UNLEASED
)


async def hold_lane(connection: AsyncConnection, leased: LeasedDelivery, now: datetime) -> None:
    """Release a delivery whose endpoint was paused when its attempt read it; it is due at once if that has changed.

    A resume that commits between the two is repaired by `wake`.
    """
    query = select(endpoints.c.paused).where(endpoints.c.id == leased.endpoint_id)
    paused = (await connection.execute(query)).scalar()
    due_at = None if paused else now
    await update_many(connection, deliveries, [{"id": leased.id, "leased_until": None, "due_at": due_at}])
    if paused and leased.lane_has_others:  # else the claims would read, again and again, what waits behind it
        this = {"this_task": leased.task_id, "this_lane": leased.lane}
        await connection.execute(HOLD_REST_OF_LANE.values(due_at=null()), this)


async def wake(connection: AsyncConnection, now: datetime) -> int:
    """Make held deliveries due whose endpoint is not paused now, at most AT_ONCE; return how many."""
    found = await distinct_values(connection, deliveries.c.endpoint_id, HELD)
    if not found:
        return 0
    paused = select(endpoints.c.id).where(endpoints.c.id.in_(found), endpoints.c.paused)
    free = set(found) - set((await connection.execute(paused)).scalars())
    if not free:
        return 0
    chosen = select(deliveries.c.id).where(HELD, deliveries.c.endpoint_id.in_(free)).limit(AT_ONCE)
    chosen = chosen.order_by(deliveries.c.endpoint_id, deliveries.c.due_at).with_for_update(skip_locked=True)
    statement = update(deliveries).where(in_found(deliveries.c.id, chosen))
    return int((await connection.execute(statement.values(due_at=now))).rowcount)


async def drop(connection: AsyncConnection, endpoint_id: str, now: datetime) -> int:
    """End deliveries of a deleted endpoint that no attempt is running for, at most AT_ONCE; return how many.

    What is leased or locked now ends with its next attempt.
    """
    prefer_order_of_indexes(connection)
    chosen = select(deliveries.c.id).where(IS_PENDING, OF_ENDPOINT, UNLEASED)
    chosen = chosen.order_by(deliveries.c.due_at).limit(AT_ONCE).with_for_update(skip_locked=True)
    statement = update(deliveries).where(in_found(deliveries.c.id, chosen))
    values = {
        "status": "dead",
        "due_at": None,
        "fault": "destination",
        "last_error": DELETED,
        "finished_at": now,
    }
    return int((await connection.execute(statement.values(values), {"endpoint": endpoint_id})).rowcount)
