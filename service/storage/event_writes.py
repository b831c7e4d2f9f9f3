"""What follows from facts, as it is written: events, and their deliveries."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.ports.unit_of_work import DeliveryClaim, DeliveryRow, EventRow
from service.storage.bulk_writes import insert_many
from service.storage.delivery_claims import delivery_claim, with_payload
from service.storage.dialects import advisory_lock
from service.storage.in_list import in_list
from service.storage.tables import IS_PENDING, deliveries, events
from service.storage.task_rows import Values

LANES_WITH_PENDING = select(deliveries.c.lane).where(IS_PENDING, in_list(deliveries.c.lane, "lanes"))
STORED_EVENTS = with_payload(events.c.id, events.c.seq, events.c.at, where=in_list(events.c.id, "born")).where(
    in_list(events.c.id, "ids")
)
NEW_DELIVERY: Values = {"status": "pending", "attempts": 0, "attempted": 0}


async def append_events(connection: AsyncConnection, rows: Sequence[EventRow]) -> None:
    """Store events in this order; what is stored already stays as it is.

    Readers resume after the highest `seq` that they saw, so numbers must appear in the order of the commits.
    """
    await advisory_lock(connection, "events")
    await insert_many(connection, events, [vars(row) | {"type": row.type.value} for row in rows])


async def append_deliveries(
    connection: AsyncConnection, rows: Sequence[DeliveryRow], carried: Mapping[str, EventRow]
) -> list[DeliveryClaim]:
    """Store deliveries of stored events; return claims on those that are born in hand, with the events `carried`.

    Of a lane only the first can be, and only while no earlier delivery of it is on its way.
    """
    born = await _born(connection, [row for row in rows if row.event_id in carried])
    asked = {"ids": {row.event_id for row in rows}, "born": {row.event_id for row in rows if row.id in born}}
    found = {event.id: event for event in await connection.execute(STORED_EVENTS, asked)}
    values = [_values(row, found[row.event_id], leased=row.id in born) for row in rows]
    await insert_many(connection, deliveries, values)
    ours = [one for one in values if one["id"] in born]
    return [delivery_claim(one, carried[one["event_id"]], found[one["event_id"]].payload) for one in ours]


async def _born(connection: AsyncConnection, rows: Sequence[DeliveryRow]) -> set[str]:
    """Return the ids of those whose lease can be granted."""
    heads = {row.lane: row for row in reversed(rows)}
    wanted = {lane: row.id for lane, row in heads.items() if row.leased_until}
    if not wanted:
        return set()
    for lane in (await connection.execute(LANES_WITH_PENDING, {"lanes": list(wanted)})).scalars():
        wanted.pop(lane, None)
    return set(wanted.values())


def _values(row: DeliveryRow, event: Row[Any], *, leased: bool) -> Values:
    lease = {"leased_until": row.leased_until if leased else None, "fence": int(leased)}
    return vars(row) | NEW_DELIVERY | lease | {"event_seq": event.seq, "created_at": event.at}
