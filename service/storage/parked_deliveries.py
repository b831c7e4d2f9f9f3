"""Deliveries that wait for the circuit of their destination: a claim parks them, and the end of the circuit wakes them.

A parked delivery is due again after a while whatever happens, so that none depends on a job or on this release.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, null, select, update

from service.domain.circuit import Circuit, waiting_since_without_pause
from service.domain.ports.circuits import Block, Blocks
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import update_many
from service.storage.column_types import UtcDateTime, in_list
from service.storage.control_tables import circuits
from service.storage.delivery_tables import FREE_IN_LANE, IS_PENDING, PROBE, deliveries, is_probe
from service.storage.destination_rates import makes_no_request
from service.storage.dialects import prefer_order_of_indexes
from service.storage.lookups import in_found
from service.storage.task_rows import Values

PARKED_AT_ONCE = 200
"""Rows that a claim reads at once while a circuit blocks deliveries: it may park them all."""

MAX_PARKED = 1_000
"""Deliveries of one handler that one claim parks."""

WOKEN_AT_ONCE = 1_000
"""Deliveries that are made due in one transaction."""

REST_OF_LANE = (
    update(deliveries)
    .where(in_found(deliveries.c.id, FREE_IN_LANE))
    .values(due_at=bindparam("until", type_=UtcDateTime()))
)
WAITING = IS_PENDING & deliveries.c.circuit.is_not(None) & deliveries.c.due_at.is_not(None)
FIRST_WAITING = (
    select(deliveries.c.id, deliveries.c.due_at, deliveries.c.waiting_since)
    .where(WAITING, deliveries.c.circuit == bindparam("key"), deliveries.c.leased_until.is_(None))
    .order_by(deliveries.c.due_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
SHARED = select(circuits).where(in_list(circuits.c.key, "keys")).with_for_update(read=True, skip_locked=True)
ANY_WAITING = (
    select(deliveries.c.id)
    .where(IS_PENDING, in_list(deliveries.c.circuit, "circuits"))
    .order_by(deliveries.c.circuit)
    .limit(1)
)


@dataclass(frozen=True, kw_only=True)
class DueRows:
    """The due rows of a claim that may be leased, and how many others were parked. A later claim finds the rest."""

    free: list[Values]
    parked: int = 0


async def without_blocked(
    connection: AsyncConnection, handler: str, rows: list[Values], blocks: Blocks, now: datetime
) -> DueRows:
    """Park the rows that a circuit blocks, which are locked, and return the others.

    A probe, an attempt that a person asked for, and one that makes no request are never blocked. What this process
    knows of a circuit may be a second old: a row is parked only if the stored circuit blocks it, too.
    """
    if not (blocks.any and rows):
        return DueRows(free=rows)
    free: list[Values] = []
    parked: list[tuple[Values, Block]] = []
    for row in rows:
        passes = makes_no_request(row) or row["manual_at"] is not None or is_probe(row["circuit"])
        block = None if passes else blocks.block(handler, row["client"], row["target"], row["waiting_since"])
        if block is None:
            free.append(row)
        else:
            parked.append((row, block))
    if parked:
        stored = await _blocking(connection, {block.key for _, block in parked}, now)
        parked = [(row, block) for row, block in parked if block.key in stored]
    if parked:
        await _park(connection, parked, now)
    return DueRows(free=free, parked=len(parked))


async def _blocking(connection: AsyncConnection, keys: set[str], now: datetime) -> set[str]:
    """Return those of the circuits that block deliveries now, locked against a change until the commit.

    So whoever closes one sees all that it has let wait. One that is changed at this moment is not waited for.
    """
    rows = (await connection.execute(SHARED, {"keys": keys})).mappings()
    return {row["key"] for row in rows if Circuit(**row).blocks(now)}


async def _park(connection: AsyncConnection, parked: Sequence[tuple[Values, Block]], now: datetime) -> None:
    values = [
        {
            "id": row["id"],
            "due_at": block.until,
            "circuit": block.key,
            "waiting_since": row["waiting_since"] or now,
        }
        for row, block in parked
    ]
    await update_many(connection, deliveries, values)
    until = max(block.until for _, block in parked)
    names = [{"this_task": row["task_id"], "this_lane": row["lane"]} for row, _ in parked]
    lanes = [one | {"now": now, "until": until} for one in names]
    await connection.execute(REST_OF_LANE, lanes)  # else claims would read, again and again, what waits behind them


async def count_waiting_time(connection: AsyncConnection, rows: Sequence[Values], now: datetime) -> None:
    """Leave out of the wait of locked rows the time in which no process looked at them; those rows are due now."""
    late: list[Values] = []
    for row in rows:
        since = row["waiting_since"]
        if since is not None and (counted := waiting_since_without_pause(since, row["due_at"], now)) != since:
            row |= {"waiting_since": counted, "due_at": now}  # so that it is left out once
            late.append({"id": row["id"], "waiting_since": counted, "due_at": now})
    await update_many(connection, deliveries, late)


async def begin_probe(connection: AsyncConnection, key: str, now: datetime) -> bool | None:
    """Make the delivery due that has waited longest; return whether there was one, None if one is just running."""
    prefer_order_of_indexes(connection)
    rows = (await connection.execute(FIRST_WAITING, {"key": key})).mappings()
    if chosen := [dict(row) for row in rows]:
        await count_waiting_time(connection, chosen, now)
        await update_many(connection, deliveries, [{"id": chosen[0]["id"], "due_at": now, "circuit": PROBE + key}])
        return True
    others = (await connection.execute(ANY_WAITING, {"circuits": [key, PROBE + key]})).scalar()
    return None if others else False


async def wake(connection: AsyncConnection, key: str, *, now: datetime) -> int:
    """Make deliveries due that wait for a circuit, which blocks none now, at most WOKEN_AT_ONCE; return how many."""
    prefer_order_of_indexes(connection)
    chosen = (
        select(deliveries.c.id)
        .where(
            WAITING,
            deliveries.c.circuit == key,
            deliveries.c.leased_until.is_(None),
        )
        .order_by(deliveries.c.due_at)
        .limit(WOKEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    statement = update(deliveries).where(in_found(deliveries.c.id, chosen))
    values = {"due_at": now, "circuit": null(), "waiting_since": null()}
    return int((await connection.execute(statement.values(values))).rowcount)
