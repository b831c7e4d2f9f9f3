"""Keeps processes from leasing two deliveries of one destination at once.

A transaction sees no lease that another one has not committed. So each locks a destination before it looks for leases;
one that another transaction has locked counts as busy, and is not waited for. SQLite has one writer at a time.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, bindparam, select

from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime
from service.storage.deferred import Deferred, defer
from service.storage.delivery_tables import deliveries, pending_of_task
from service.storage.lookups import first_part, first_value, listed
from service.storage.task_rows import Values

TRY_LOCKS = (
    "SELECT name FROM unnest(%s::text[]) AS name "
    "WHERE pg_try_advisory_xact_lock(hashtextextended('boomerang destination ' || name, 0))"
)


def _leased(condition: ColumnElement[bool]) -> Select[str]:
    """Return the query for those of some destinations that have a delivery with such a lease."""
    wanted = listed("destinations").c.value
    own = (deliveries.c.task_id == first_part(wanted)) & (deliveries.c.destination == wanted)
    return select(wanted).where(first_value(deliveries.c.id, own, pending_of_task(), condition).is_not(None))


LEASED = _leased(deliveries.c.leased_until.is_not(None))
LEASED_NOW = _leased(deliveries.c.leased_until > bindparam("now", type_=UtcDateTime()))


def _try_locks(connection: AsyncConnection, wanted: Collection[str]) -> Deferred:
    """Try to lock destinations with the next statement, in one order; the rows are the names that it has locked."""
    return defer(connection, Deferred(statement=TRY_LOCKS, parameters=(sorted(wanted),), returns=True))


async def busy_destinations(connection: AsyncConnection, wanted: Collection[str]) -> set[str]:
    """Try to lock destinations until this transaction ends; return those for which no delivery may be leased now."""
    if not wanted:
        return set()
    locks = _try_locks(connection, wanted) if connection.dialect.name == "postgresql" else None
    leased = set((await connection.execute(LEASED, {"destinations": list(wanted)})).scalars())
    locked = set(wanted) if locks is None else {name for (name,) in locks.rows or ()}
    return set(wanted) - locked | leased


async def without_busy(connection: AsyncConnection, rows: Sequence[Values], now: datetime) -> list[Values]:
    """Return the due rows of a claim whose destinations no other transaction has leased since the rows were read."""
    wanted = {row["destination"] for row in rows} - {None}
    if not wanted or connection.dialect.name != "postgresql":
        return list(rows)
    locks = _try_locks(connection, wanted)
    leased = (await connection.execute(LEASED_NOW, {"destinations": list(wanted), "now": now})).scalars()
    free = {name for (name,) in locks.rows or ()} - set(leased)
    return [row for row in rows if row["destination"] is None or row["destination"] in free]
