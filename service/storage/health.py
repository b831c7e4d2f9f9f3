"""Readiness of the database, and the gauges of its contents."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import OperatorError
from service.domain.ports.health import Gauges
from service.storage.daily_budget import reported_today
from service.storage.database import Database
from service.storage.delivery_queue import pending_handlers
from service.storage.inbox import OLDEST_UNREAD
from service.storage.migrate import HEAD, VERSION, is_newer
from service.storage.tables import (
    HAS_STATUS_WORD,
    IS_DEAD,
    IS_PENDING,
    OPEN,
    POLLED,
    QUEUED,
    attempts,
    deliveries,
    inbox,
    polls,
    tasks,
)

PROBE_ROW = {"task_id": "", "at": datetime.fromtimestamp(0, UTC), "outcome": "none"}
"""A row with an id that no task has: inserted and deleted to check whether the database can be written."""


MAX_STATUS_WORDS = 20
"""Unknown status words in the metrics: a provider may write anything into them."""


class SqlHealth:
    """Implements `Health`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema_matched = False

    async def ready(self) -> str | None:
        """Return None if the database answers and its schema fits, else the reason with its fix.

        After a failed write, the store is ready again once a write succeeds: a full or read-only disk can still be
        read. A schema that matched and is newer now still fits, because migrations only add: a running process of the
        previous release continues while the next one starts.
        """
        try:
            async with self._database.reading() as connection:
                version: str | None = (await connection.execute(text(VERSION))).scalar()
            if self._database.write_failed:
                await self._probe_write()
        except OperatorError as error:
            return str(error)
        if version == HEAD or (self._schema_matched and is_newer(version)):
            self._schema_matched = True
            return None
        if is_newer(version):
            return f"the database has schema {version}, this code knows {HEAD} at most: start the newer release"
        return f'the database has schema {version}, this code needs {HEAD}: run "boomerang migrate"'

    async def _probe_write(self) -> None:
        async with self._database.writing() as write:
            await write.connection.execute(insert(polls), PROBE_ROW)
            await write.connection.execute(delete(polls).where(polls.c.task_id == PROBE_ROW["task_id"]))
        self._database.write_failed = False

    async def gauges(self, now: datetime) -> Gauges:
        """Return the current gauges."""
        async with self._database.reading() as connection:
            by_status = await _counts(connection, tasks.c.status)
            outcomes = select(attempts.c.handler, attempts.c.outcome, func.count())
            by_outcome = await connection.execute(outcomes.group_by(attempts.c.handler, attempts.c.outcome))
            return Gauges(
                tasks=by_status,
                deliveries=await _deliveries(connection),
                attempts={(row[0], row[1]): row[2] for row in by_outcome},
                callbacks=await _counts(connection, inbox.c.verdict),
                oldest_unsettled=await _age(connection, now, select(func.min(tasks.c.created_at)).where(OPEN)),
                oldest_due=max([await _age(connection, now, query) for query in await _oldest_due(connection, now)]),
                in_doubt=by_status.get("in_doubt", 0),
                status_words=await _status_words(connection, now),
                day_costs=await reported_today(connection, now),
            )


async def _counts(connection: AsyncConnection, column: ColumnElement[str]) -> dict[str, int]:
    rows = await connection.execute(select(column, func.count()).group_by(column))
    return {row[0]: row[1] for row in rows}


async def _status_words(connection: AsyncConnection, now: datetime) -> dict[str, timedelta]:
    """Return how long the provider has reported each status word of unknown meaning, the longest first."""
    since = func.min(tasks.c.status_since)
    query = select(tasks.c.status_word, since).where(HAS_STATUS_WORD).group_by(tasks.c.status_word).order_by(since)
    rows = await connection.execute(query.limit(MAX_STATUS_WORDS))
    return {row[0]: max(now - row[1], timedelta(0)) for row in rows if row[1]}


async def _deliveries(connection: AsyncConnection) -> dict[str, int]:
    """Count deliveries by status; the partial indexes count the pending and the dead ones."""
    total = select(func.count()).select_from(deliveries)
    pending = (await connection.execute(total.where(IS_PENDING))).scalar_one()
    dead = (await connection.execute(total.where(IS_DEAD))).scalar_one()
    delivered = (await connection.execute(total)).scalar_one() - pending - dead
    return {"pending": pending, "delivered": delivered, "dead": dead}


async def _age(connection: AsyncConnection, now: datetime, query: Select[Any]) -> timedelta:
    oldest: datetime | None = (await connection.execute(query)).scalar()
    return timedelta(0) if oldest is None else max(now - oldest, timedelta(0))


async def _oldest_due(connection: AsyncConnection, now: datetime) -> list[Select[Any]]:
    """Return queries for the oldest due time of rows without a lease; each reads one end of an index."""
    handlers = await pending_handlers(connection)
    return [
        OLDEST_UNREAD,
        _oldest_unleased(tasks.c.due_at, tasks.c.leased_until, QUEUED, now),
        _oldest_unleased(tasks.c.due_at, tasks.c.leased_until, POLLED, now),
        *(
            _oldest_unleased(
                deliveries.c.due_at, deliveries.c.leased_until, IS_PENDING & (deliveries.c.handler == handler), now
            )
            for handler in handlers
        ),
    ]


def _oldest_unleased(
    due_at: ColumnElement[datetime], leased: ColumnElement[datetime], where: ColumnElement[bool], now: datetime
) -> Select[Any]:
    return select(due_at).where(where, due_at <= now, leased.is_(None) | (leased <= now)).order_by(due_at).limit(1)
