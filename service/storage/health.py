"""The database's own word on its state."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import OperatorError
from service.domain.ports.health import Gauges
from service.storage.database import Database
from service.storage.delivery_queue import pending_handlers
from service.storage.inbox import OLDEST_UNREAD
from service.storage.migrate import HEAD, VERSION, is_newer
from service.storage.tables import IS_DEAD, IS_PENDING, OPEN, POLLED, QUEUED, attempts, deliveries, inbox, polls, tasks

PROBE_ROW = {"task_id": "", "at": datetime.fromtimestamp(0, UTC), "outcome": "none"}
"""A row that no other can be taken for: written and taken back, to see whether that can be done."""


class SqlHealth:
    """Implements `Health`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fitted = False

    async def ready(self) -> str | None:
        """Return None when the database answers and its schema fits, else what to do about it.

        After a write that failed, it is ready again once one succeeds: a full or read-only disk can still be read.
        A schema that has fitted and is newer now still fits: migrations only add, so that a running process of the
        release before goes on while the next one starts.
        """
        try:
            version = await self._version()
            if self._database.write_failed:
                await self._write_something()
        except OperatorError as error:
            return str(error)
        if version == HEAD or (self._fitted and is_newer(version)):
            self._fitted = True
            return None
        if is_newer(version):
            return f"the database has schema {version}, this code knows {HEAD} at most: start the newer release"
        return f'the database has schema {version}, this code needs {HEAD}: run "boomerang migrate"'

    async def _version(self) -> str | None:
        async with self._database.reading() as connection:
            version: str | None = (await connection.execute(text(VERSION))).scalar()
            return version

    async def _write_something(self) -> None:
        async with self._database.writing() as write:
            await write.connection.execute(insert(polls), PROBE_ROW)
            await write.connection.execute(delete(polls).where(polls.c.task_id == PROBE_ROW["task_id"]))
        self._database.write_failed = False

    async def gauges(self, now: datetime) -> Gauges:
        """Return the current reading."""
        async with self._database.reading() as connection:
            by_status = await _counts(connection, tasks.c.status)
            outcomes = select(attempts.c.handler, attempts.c.outcome, func.count())
            grouped = await connection.execute(outcomes.group_by(attempts.c.handler, attempts.c.outcome))
            return Gauges(
                tasks=by_status,
                deliveries=await _deliveries(connection),
                attempts={(row[0], row[1]): row[2] for row in grouped},
                callbacks=await _counts(connection, inbox.c.verdict),
                oldest_unsettled=await _age(connection, now, select(func.min(tasks.c.created_at)).where(OPEN)),
                oldest_due=max([await _age(connection, now, query) for query in await _due(connection, now)]),
                in_doubt=by_status.get("in_doubt", 0),
            )


async def _counts(connection: AsyncConnection, column: ColumnElement[str]) -> dict[str, int]:
    rows = await connection.execute(select(column, func.count()).group_by(column))
    return {row[0]: row[1] for row in rows}


async def _deliveries(connection: AsyncConnection) -> dict[str, int]:
    """Return the deliveries by status; the partial indexes know the pending and the dead ones."""
    total = select(func.count()).select_from(deliveries)
    pending = (await connection.execute(total.where(IS_PENDING))).scalar_one()
    dead = (await connection.execute(total.where(IS_DEAD))).scalar_one()
    delivered = (await connection.execute(total)).scalar_one() - pending - dead
    return {"pending": pending, "delivered": delivered, "dead": dead}


async def _age(connection: AsyncConnection, now: datetime, query: Select[Any]) -> timedelta:
    oldest: datetime | None = (await connection.execute(query)).scalar()
    return timedelta(0) if oldest is None else max(now - oldest, timedelta(0))


async def _due(connection: AsyncConnection, now: datetime) -> list[Select[Any]]:
    """Return the queries for what is due and in nobody's hands; each finds its oldest at the end of an index."""
    handlers = await pending_handlers(connection)
    return [
        OLDEST_UNREAD,
        _oldest(tasks.c.due_at, tasks.c.leased_until, QUEUED, now),
        _oldest(tasks.c.due_at, tasks.c.leased_until, POLLED, now),
        *(
            _oldest(deliveries.c.due_at, deliveries.c.leased_until, IS_PENDING & (deliveries.c.handler == handler), now)
            for handler in handlers
        ),
    ]


def _oldest(
    due_at: ColumnElement[datetime], leased: ColumnElement[datetime], where: ColumnElement[bool], now: datetime
) -> Select[Any]:
    return select(due_at).where(where, due_at <= now, leased.is_(None) | (leased <= now)).order_by(due_at).limit(1)
