"""What follows from facts, as it is written: events, and their deliveries."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.ports import DeliveryClaim, DeliveryRow, EventRow
from service.store.bulk import insert_many
from service.store.claims import claims_of
from service.store.dialect import one_at_a_time
from service.store.rows import Values
from service.store.tables import IS_PENDING, deliveries, events

FRESH: Values = {"status": "pending", "attempts": 0, "attempted": 0}


async def append_events(connection: AsyncConnection, rows: Sequence[EventRow]) -> None:
    """Store events in this order; what is stored already stays as it is.

    Readers resume after the highest `seq` that they saw, so numbers must appear in the order of the commits.
    """
    await one_at_a_time(connection, "events")
    await insert_many(connection, events, [vars(row) | {"type": row.type.value} for row in rows])


async def append_deliveries(
    connection: AsyncConnection, rows: Sequence[DeliveryRow], carried: Mapping[str, EventRow]
) -> list[DeliveryClaim]:
    """Store deliveries of stored events; return claims on those that are born in hand, with the events `carried`.

    Of a lane only the first can be, and only while no earlier delivery of it is on its way.
    """
    born = await _born(connection, rows)
    numbers = await _numbers(connection, {row.event_id for row in rows})
    values = [vars(row) | FRESH | numbers[row.event_id] | _lease(row, born) for row in rows]
    await insert_many(connection, deliveries, values)
    return await claims_of(connection, [one for one in values if one["id"] in born], carried)


async def _born(connection: AsyncConnection, rows: Sequence[DeliveryRow]) -> set[str]:
    """Return the ids of those whose lease can be granted."""
    heads = {row.lane: row for row in reversed(rows)}
    wanted = {lane: row.id for lane, row in heads.items() if row.leased_until}
    if not wanted:
        return set()
    busy = select(deliveries.c.lane).where(IS_PENDING, deliveries.c.lane.in_(wanted))
    for lane in (await connection.execute(busy)).scalars():
        wanted.pop(lane, None)
    return set(wanted.values())


def _lease(row: DeliveryRow, born: Collection[str]) -> Values:
    return {"leased_until": row.leased_until, "fence": 1} if row.id in born else {"leased_until": None, "fence": 0}


async def _numbers(connection: AsyncConnection, event_ids: Collection[str]) -> dict[str, Values]:
    """Return what a delivery keeps of its event: its number and its time."""
    query = select(events.c.id, events.c.seq, events.c.at).where(events.c.id.in_(event_ids))
    return {row.id: {"event_seq": row.seq, "created_at": row.at} for row in await connection.execute(query)}
