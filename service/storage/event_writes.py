"""Inserts of events and their deliveries."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.ports.unit_of_work import DeliveryClaim, DeliveryRow, EventRow
from service.storage.bulk_writes import insert_many
from service.storage.delivery_claim_rows import delivery_claim, with_payload
from service.storage.dialects import advisory_lock
from service.storage.in_list import in_list
from service.storage.tables import IS_PENDING, deliveries, events
from service.storage.task_rows import Values

LANES_WITH_PENDING = select(deliveries.c.lane).where(IS_PENDING, in_list(deliveries.c.lane, "lanes"))
STORED_EVENTS = with_payload(events.c.id, events.c.seq, events.c.at, where=in_list(events.c.id, "claimed")).where(
    in_list(events.c.id, "ids")
)
NEW_DELIVERY: Values = {"status": "pending", "attempts": 0, "attempted": 0}


async def append_events(connection: AsyncConnection, rows: Sequence[EventRow]) -> None:
    """Insert events in this order; events that are stored already do not change.

    Readers resume after the highest `seq` that they have read, so numbers must appear in the order of the commits.
    """
    await advisory_lock(connection, "events")
    await insert_many(connection, events, [vars(row) | {"type": row.type.value} for row in rows])


async def append_deliveries(
    connection: AsyncConnection, rows: Sequence[DeliveryRow], new_events: Mapping[str, EventRow]
) -> list[DeliveryClaim]:
    """Insert deliveries of stored events; return claims on those whose lease is granted, with their `new_events`."""
    claimed = await _claimable(connection, [row for row in rows if row.event_id in new_events])
    parameters = {
        "ids": {row.event_id for row in rows},
        "claimed": {row.event_id for row in rows if row.id in claimed},
    }
    stored = {event.id: event for event in await connection.execute(STORED_EVENTS, parameters)}
    values: list[Values] = []
    for row in rows:
        event, leased = stored[row.event_id], row.id in claimed
        lease = {"leased_until": row.leased_until if leased else None, "fence": int(leased)}
        values.append(vars(row) | NEW_DELIVERY | lease | {"event_seq": event.seq, "created_at": event.at})
    await insert_many(connection, deliveries, values)
    return [
        delivery_claim(one, new_events[one["event_id"]], stored[one["event_id"]].payload)
        for one in values
        if one["id"] in claimed
    ]


async def _claimable(connection: AsyncConnection, rows: Sequence[DeliveryRow]) -> set[str]:
    """Return the ids of rows whose lease can be granted: the first of a lane that has no pending delivery."""
    heads = {row.lane: row for row in reversed(rows)}
    wanted = {lane: row.id for lane, row in heads.items() if row.leased_until}
    if not wanted:
        return set()
    for lane in (await connection.execute(LANES_WITH_PENDING, {"lanes": list(wanted)})).scalars():
        wanted.pop(lane, None)
    return set(wanted.values())
