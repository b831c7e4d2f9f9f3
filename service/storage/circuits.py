"""The circuits of destinations."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import and_, delete, func, or_, select, true, update

from service.domain.circuit import COUNT_FOR, PROBE_TIME, Circuit, closed_for_nothing, closed_manually
from service.domain.ports.handler_pauses import CONTROLS
from service.storage.async_engine import AsyncConnection
from service.storage.circuit_health import LOCKED, report_change, save
from service.storage.control_tables import circuits
from service.storage.database import Database
from service.storage.destination_rates import delete_unused_buckets
from service.storage.parked_deliveries import WOKEN_AT_ONCE, begin_probe, wake

MAX_RECENT = 5_000
"""Circuits that a process knows at most: those that block come first."""

BLOCKING = circuits.c.state.in_(["open", "busy"])
MEANINGFUL = or_(circuits.c.state == "open", circuits.c.waking == true())


class SqlCircuits:
    """Implements `Circuits`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent(self, *, now: datetime) -> list[Circuit]:
        """Return those that block or wake deliveries, and those that have changed lately."""
        recent = or_(BLOCKING, circuits.c.waking == true(), circuits.c.changed_at > now - COUNT_FOR)
        query = select(circuits).where(recent).order_by(BLOCKING.desc(), circuits.c.key).limit(MAX_RECENT)
        async with self._database.reading() as connection:
            return [Circuit(**row) for row in (await connection.execute(query)).mappings()]

    async def listed(self, *, limit: int, after: str | None, only_open: bool = False) -> list[Circuit]:
        """Return circuits that are open or busy, or `only_open` ones, by key, after the one with the key `after`."""
        wanted = circuits.c.state == "open" if only_open else BLOCKING
        query = select(circuits).where(wanted).order_by(circuits.c.key).limit(limit)
        query = query if after is None else query.where(circuits.c.key > after)
        async with self._database.reading() as connection:
            return [Circuit(**row) for row in (await connection.execute(query)).mappings()]

    async def probe(self, key: str, *, now: datetime) -> bool:
        """Make one waiting delivery due that probes an open circuit, or close it if none waits; return whether so."""
        due = and_(circuits.c.key == key, circuits.c.state == "open", circuits.c.retry_at <= now)
        begin = update(circuits).where(due).values(retry_at=now + PROBE_TIME, changed_at=now)
        async with self._database.writing() as write:
            if not (await write.connection.execute(begin)).rowcount:
                return False  # another process has begun the probe
            probed = await begin_probe(write.connection, key, now)
            if probed is False:
                await self._close(write.connection, key, now)
            write.topics.update({"dispatch", CONTROLS})
            return probed is not None

    async def _close(self, connection: AsyncConnection, key: str, now: datetime) -> None:
        row = (await connection.execute(LOCKED, {"keys": [key]})).mappings().one()
        before = Circuit(**row)
        after = closed_for_nothing(before, now)
        await save(connection, [after])
        await report_change(connection, before, after)

    async def close(self, key: str, *, now: datetime) -> Circuit | None:
        """Close a circuit, so that what waits for it becomes due; return it, None if it is unknown."""
        async with self._database.writing() as write:
            row = (await write.connection.execute(LOCKED, {"keys": [key]})).mappings().one_or_none()
            if row is None:
                return None
            before = Circuit(**row)
            after = closed_manually(before, max(now, before.changed_at))
            await save(write.connection, [after])
            await report_change(write.connection, before, after)
            write.topics.add(CONTROLS)
            return after

    async def wake(self, key: str, *, now: datetime) -> int:
        """Make deliveries due that have waited for a circuit which is closed now; return how many."""
        async with self._database.writing() as write:
            row = (await write.connection.execute(LOCKED, {"keys": [key]})).mappings().one_or_none()
            circuit = None if row is None else Circuit(**row)
            if circuit is None or not circuit.waking or circuit.blocks(now):
                return 0
            woken = await wake(write.connection, key, now=now)
            if woken < WOKEN_AT_ONCE:
                await save(write.connection, [replace(circuit, waking=False, changed_at=now)])
            if woken:
                write.topics.add("dispatch")
            return woken

    async def prune(self, *, before: datetime) -> int:
        """Delete circuits without a meaning and full buckets, unchanged since a time; return how many."""
        statement = delete(circuits).where(circuits.c.changed_at < before, ~MEANINGFUL)
        async with self._database.writing() as write:
            buckets = await delete_unused_buckets(write.connection, before=before)
            return buckets + int((await write.connection.execute(statement)).rowcount)


async def circuit_states(connection: AsyncConnection, now: datetime) -> dict[str, int]:
    """Return how many circuits are open, and how many destinations have asked to wait."""
    busy = and_(circuits.c.state == "busy", circuits.c.retry_at > now)
    query = select(circuits.c.state, func.count()).where(or_(circuits.c.state == "open", busy))
    rows = (await connection.execute(query.group_by(circuits.c.state))).all()
    return {"open": 0, "busy": 0} | {row[0]: row[1] for row in rows}
