"""The events that an endpoint has not got, and deliveries of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select

from service.domain.endpoint import Endpoint
from service.domain.ports.endpoints import MissedEvent
from service.domain.ports.unit_of_work import DeliveryRow
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import insert_many
from service.storage.column_types import in_list
from service.storage.delivery_tables import deliveries
from service.storage.tables import events, tasks
from service.storage.task_rows import Values

CLOCK_DIFFERENCE = timedelta(minutes=10)
"""How much the times of events may differ from the order of their numbers: processes have different clocks."""

TASKS_LOCKED = (
    select(tasks.c.id, tasks.c.erased_at)
    .where(in_list(tasks.c.id, "ids"))
    .order_by(tasks.c.id)
    .with_for_update(read=True, key_share=True)
)


async def missed_events(
    connection: AsyncConnection,
    endpoint: Endpoint,
    *,
    since: datetime,
    until: datetime | None,
    after: int | None,
    limit: int,
) -> tuple[list[MissedEvent], int | None]:
    """Return events of [since, until) without a delivery to the endpoint, or with a dead letter, oldest first.

    Without `until` they are all since then.

    The number of the last event that was read comes with them, None at the end. At most `limit` events are read.
    """
    if after is None:
        after = await _number_before(connection, endpoint.client, since - CLOCK_DIFFERENCE)
    own = (deliveries.c.event_id == events.c.id) & (deliveries.c.endpoint_id == endpoint.id)
    query = (
        select(events.c.seq, events.c.id, events.c.task_id, events.c.type, events.c.at)
        .add_columns(deliveries.c.id.label("delivery_id"), deliveries.c.status)
        .select_from(events.outerjoin(deliveries, own).outerjoin(tasks, tasks.c.id == events.c.task_id))
        .add_columns(tasks.c.erased_at)
        .where(events.c.client == endpoint.client, events.c.seq > after)
        .order_by(events.c.seq)
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    found = [
        MissedEvent(seq=row.seq, id=row.id, task_id=row.task_id, dead_id=row.delivery_id)
        for row in rows
        if since <= row.at
        and (until is None or row.at < until)
        and row.erased_at is None
        and (not endpoint.events or row.type in endpoint.events)
        and row.status in {None, "dead"}
    ]
    ended = len(rows) < limit or (until is not None and rows[-1].at >= until + CLOCK_DIFFERENCE)
    return found, None if ended else rows[-1].seq


async def _number_before(connection: AsyncConnection, client: str, at: datetime) -> int:
    """Return a number after which the events of `client` at `at` and later come: a binary search in their order."""
    of_client = events.c.client == client
    seqs = select(events.c.seq).where(of_client).limit(1)  # MIN and MAX need no order of an index, see `lookups`
    low = (await connection.execute(seqs.order_by(events.c.seq))).scalar()
    high = (await connection.execute(seqs.order_by(events.c.seq.desc()))).scalar()
    if low is None or high is None:
        return 0
    low, high = low - 1, high + 1  # no event up to `low` has to be read; `high` is after the last one
    while high - low > 1:
        middle = (low + high) // 2
        query = select(events.c.seq, events.c.at).where(of_client, events.c.seq >= middle)
        row = (await connection.execute(query.order_by(events.c.seq).limit(1))).first()
        if row is not None and row.at < at:
            low = row.seq
        else:
            high = middle
    return int(low)


async def insert_missed(connection: AsyncConnection, rows: Sequence[DeliveryRow]) -> int:
    """Insert deliveries of stored events; those that exist are left alone. Return how many are new.

    The tasks are locked first: one that is erased meanwhile gets no delivery.
    """
    tasks_found = await connection.execute(TASKS_LOCKED, {"ids": {row.task_id for row in rows}})
    erased = {row.id for row in tasks_found if row.erased_at is not None}
    rows = [row for row in rows if row.task_id not in erased]
    stored = await _stored_events(connection, [row.event_id for row in rows])
    values: list[Values] = [
        vars(row) | stored[row.event_id] | {"status": "pending", "attempts": 0, "attempted": 0, "fence": 0}
        for row in rows
        if row.event_id in stored
    ]
    if not values:
        return 0
    await insert_many(connection, deliveries, values)
    ids = select(func.count()).select_from(deliveries).where(deliveries.c.id.in_([row["id"] for row in values]))
    return int((await connection.execute(ids)).scalar_one())


async def _stored_events(connection: AsyncConnection, ids: Sequence[str]) -> Mapping[str, Values]:
    query = select(events.c.id, events.c.seq, events.c.at).where(events.c.id.in_(ids))
    return {row.id: {"event_seq": row.seq, "created_at": row.at} for row in await connection.execute(query)}
