"""Chooses the due deliveries that a claim leases: heads of lanes, within shares, circuits and rates."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Select, bindparam, select

from service.domain.fair_share import share_owner
from service.domain.ports.circuits import Blocks
from service.domain.ports.queues import HandlerCapacity
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import in_list
from service.storage.delivery_tables import IS_PENDING, deliveries, pending_of_task, waits_in
from service.storage.destination_locks import without_busy
from service.storage.destination_rates import ENDPOINT_ENDED, ENDPOINT_RATE, DestinationRates
from service.storage.lookups import first_value
from service.storage.parked_deliveries import MAX_PARKED, PARKED_AT_ONCE, count_waiting_time, without_blocked
from service.storage.scan_starts import ScanStarts
from service.storage.task_rows import Values

DUE_COLUMNS = (
    deliveries.c.id,
    deliveries.c.task_id,
    deliveries.c.client,
    deliveries.c.target,
    deliveries.c.destination,
    deliveries.c.leased_until.is_not(None).label("abandoned"),
    deliveries.c.lane,
    deliveries.c.due_at,
    deliveries.c.manual_at,
    deliveries.c.circuit,
    deliveries.c.waiting_since,
    deliveries.c.endpoint_id,
    ENDPOINT_RATE,
    ENDPOINT_ENDED,
)
OLDEST_DUE_DELIVERY = (
    select(deliveries.c.due_at)
    .where(IS_PENDING, deliveries.c.handler == bindparam("handler_name"), deliveries.c.due_at.is_not(None))
    .order_by(deliveries.c.due_at, deliveries.c.event_seq)
    .limit(1)
)


async def choose_due(
    connection: AsyncConnection, capacity: HandlerCapacity, now: datetime, blocks: Blocks, starts: ScanStarts
) -> list[Values]:
    """Return the heads to lease; one query for each name of the handler, because the index has the order of one name.

    `starts` are of OLDEST_DUE_DELIVERY. A query repeats without the clients that have their fair share, as long as it
    skipped rows of such clients. The free slots bound the number of repetitions, since each serves one more client. It
    also repeats without the rows that it has parked or postponed, which it found in the place of others.
    """
    shares = capacity.shares()
    rates = DestinationRates(connection=connection, now=now, each_host=capacity.destination_rate)
    chosen: dict[str, Values] = {}
    for name in dict.fromkeys(capacity.names):
        since = await starts.find(connection, name, {"handler_name": name}, now)
        skipped, parked = True, 0
        while shares.free and skipped and parked < MAX_PARKED:
            served = shares.served() if capacity.past_served else set()
            statement = DUE_OF_OTHER_CLIENTS if served else DUE_HEADS
            limit = max(shares.free + len(chosen), PARKED_AT_ONCE if blocks.any or parked else 0)
            parameters = {"handler_name": name, "since": since, "now": now, "limit": limit}
            result = await connection.execute(statement, parameters | ({"served": served} if served else {}))
            rows = [dict(row) for row in result.mappings()]
            await count_waiting_time(connection, rows, now)
            found = await without_blocked(connection, name, rows, blocks, now)
            free = await without_busy(connection, _first_of_destinations(found.free, chosen), now)
            new, postponed = await rates.limit(free)
            parked += found.parked + postponed
            taken = [row for row in new if shares.take(share_owner(row["client"], row["target"]))]
            rates.take(taken)
            chosen |= {row["id"]: row for row in taken}
            skipped = bool(found.parked + postponed) or (capacity.past_served and len(taken) < len(new))
    await rates.spend()
    return list(chosen.values())


def _first_of_destinations(rows: Sequence[Values], chosen: Mapping[str, Values]) -> list[Values]:
    """Return the rows that are not `chosen`, of each destination one, and none if one of it is chosen."""
    taken = {row["destination"] for row in chosen.values()} - {None}
    found: list[Values] = []
    for row in rows:
        if row["id"] not in chosen and row["destination"] not in taken:
            taken |= {row["destination"]} - {None}
            found.append(row)
    return found


def _due_heads() -> Select[Any]:
    """Return the query for the due deliveries of one handler that have no lease and are the head of their lane.

    Only one delivery of a lane has a lease: a replayed one may become the head while a later one has a lease.
    Deliveries after a head that waits for its retry are postponed with it (see `finish`), so that a long outage of one
    destination does not fill the due end of the index with rows that cannot be claimed. Of the deliveries of one task
    to one host only one has a lease.
    """
    other = deliveries.alias("other")
    blocked = first_value(
        other.c.id,
        waits_in(deliveries.c.lane, deliveries.c.task_id, other),
        (other.c.event_seq < deliveries.c.event_seq) | (other.c.leased_until > bindparam("now")),
    )
    same = deliveries.alias("same")
    busy = first_value(
        same.c.id,
        same.c.task_id == deliveries.c.task_id,
        same.c.destination == deliveries.c.destination,
        pending_of_task(same),
        same.c.leased_until > bindparam("now"),
    )
    own = deliveries.c.handler == bindparam("handler_name")
    due = (deliveries.c.due_at >= bindparam("since")) & (deliveries.c.due_at <= bindparam("now"))
    free = deliveries.c.leased_until.is_(None) | (deliveries.c.leased_until <= bindparam("now"))
    return (
        select(*DUE_COLUMNS)
        .where(IS_PENDING, own, due, free, blocked.is_(None), busy.is_(None))
        .order_by(deliveries.c.due_at, deliveries.c.event_seq)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True, of=deliveries)
    )


# Statements that run many times a second, built once.
DUE_HEADS = _due_heads()
DUE_OF_OTHER_CLIENTS = DUE_HEADS.where(~in_list(deliveries.c.client, "served") | (deliveries.c.target == {}))
