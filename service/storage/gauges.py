"""The gauges of the database: what is unfinished is counted each time, what only grows from time to time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from service.domain.errors import StoreUnavailable
from service.domain.ports.health import Gauges
from service.domain.task import Status
from service.storage.async_engine import AsyncConnection
from service.storage.circuits import circuit_states
from service.storage.daily_budget import reported_today, spent_today
from service.storage.database import Database
from service.storage.delivery_queue import pending_handlers
from service.storage.delivery_tables import IS_DEAD, IS_PENDING, attempts, deliveries
from service.storage.dialects import allow_whole_tables
from service.storage.endpoint_store import endpoint_states
from service.storage.handler_pauses import paused_names
from service.storage.inbox import OLDEST_UNREAD
from service.storage.row_counts import count_rows
from service.storage.tables import HAS_STATUS_WORD, OPEN, POLLED, QUEUED, inbox, tasks

MAX_STATUS_WORDS = 20
"""Unknown status words in the metrics: a provider may write anything into them."""

FEW_ROWS = 20_000
"""Rows that are counted again for every call."""

COUNT_TIMEOUT = 2.0
"""Seconds that a call waits for new counts if it has older ones."""

REUSE = timedelta(seconds=60)
"""How long counts of more rows are used; one second more for each FEW_ROWS, so that counting takes few percent."""


DEAD_FAULT = func.coalesce(deliveries.c.fault, "ours")
OLDEST_OPEN = select(tasks.c.created_at, tasks.c.deadline_at).where(OPEN).order_by(tasks.c.created_at).limit(1)
"""The deadline makes SQLite take the index of open tasks: no index of all tasks has it."""

NUMBER_OF_DELIVERIES = select(func.count()).select_from(deliveries)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts of rows that stay, at the time `at`; `rows` were read for them."""

    at: datetime
    rows: int
    ended: Mapping[str, int]
    deliveries: int
    dead_letters: Mapping[str, int]
    dead_faults: Mapping[str, int]
    attempts: Mapping[tuple[str, str], int]
    callbacks: Mapping[str, int]
    day_costs: Mapping[str, float]
    spent: Mapping[str, float]

    def usable(self, now: datetime) -> bool:
        """Return whether they need not be counted again at `now`."""
        if self.rows < FEW_ROWS:
            return False
        return timedelta(0) <= now - self.at < max(REUSE, timedelta(seconds=self.rows // FEW_ROWS))


class SqlGauges:
    """Counts the rows of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._totals: Totals | None = None
        self._counting: asyncio.Task[None] | None = None

    async def read(self, now: datetime, *, each: float) -> Gauges:
        """Return the gauges at `now`; `each` is BUDGET_EACH, which a task of unknown price counts as.

        Calls at the same time share the counts of rows that stay.
        """
        totals = await self._current_totals(now, each)
        async with self._database.reading() as connection:
            open_tasks = await _counts(connection, tasks.c.status, OPEN)
            pending = (await connection.execute(NUMBER_OF_DELIVERIES.where(IS_PENDING))).scalar_one()
            dead = sum(totals.dead_letters.values())
            return Gauges(
                tasks={**totals.ended, **open_tasks},
                deliveries={
                    "pending": pending,
                    "delivered": max(0, totals.deliveries - pending - dead),
                    "dead": dead,
                },
                attempts=totals.attempts,
                callbacks=totals.callbacks,
                oldest_unsettled=await _age(connection, now, OLDEST_OPEN),
                oldest_due=max([await _age(connection, now, query) for query in await _oldest_due(connection, now)]),
                in_doubt=open_tasks.get(Status.IN_DOUBT.value, 0),
                status_words=await _status_words(connection, now),
                day_costs=totals.day_costs,
                dead_letters=totals.dead_letters,
                dead_faults=totals.dead_faults,
                spent=totals.spent,
                endpoints=await endpoint_states(connection),
                circuits=await circuit_states(connection, now),
            )

    async def close(self) -> None:
        """End a count that is running."""
        if self._counting:
            self._counting.cancel()
            await asyncio.wait({self._counting})

    async def _current_totals(self, now: datetime, each: float) -> Totals:
        """Return the counts of rows that stay. A caller that does not wait for their end leaves them running.

        Older counts are returned while newer ones take longer than COUNT_TIMEOUT.
        """
        if self._totals and self._totals.usable(now):
            return self._totals
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._count(now, each), name="count rows")
        stale = self._totals if self._totals and self._totals.rows >= FEW_ROWS else None
        done, _ = await asyncio.wait({self._counting}, timeout=COUNT_TIMEOUT if stale else None)
        if done:
            self._counting.result()
        if self._totals is None:
            raise StoreUnavailable("the rows were not counted")
        return self._totals

    async def _count(self, now: datetime, each: float) -> None:
        async with self._database.reading() as connection:
            await allow_whole_tables(connection)
            self._totals = await _totals(connection, now, each)


async def _totals(connection: AsyncConnection, now: datetime, each: float) -> Totals:
    tried = await count_rows(connection, attempts.c.handler, attempts.c.outcome, along=attempts.c.finished_at)
    ended = _by_first(await count_rows(connection, tasks.c.status, along=tasks.c.created_at, where=~OPEN))
    stored = (await connection.execute(NUMBER_OF_DELIVERIES)).scalar_one()
    callbacks = _by_first(await count_rows(connection, inbox.c.verdict, along=inbox.c.received_at))
    return Totals(
        at=now,
        rows=sum(ended.values()) + stored + sum(tried.values()) + sum(callbacks.values()),
        ended=ended,
        deliveries=stored,
        dead_letters=await _dead(connection, deliveries.c.handler),
        dead_faults=await _dead(connection, DEAD_FAULT),
        attempts={(handler, outcome): number for (handler, outcome), number in tried.items()},
        callbacks=callbacks,
        day_costs=await reported_today(connection, now),
        spent=await spent_today(connection, now, each),
    )


async def _counts(
    connection: AsyncConnection, column: ColumnElement[str], where: ColumnElement[bool]
) -> dict[str, int]:
    query = select(column, func.count()).where(where).group_by(column)
    return {row[0]: row[1] for row in await connection.execute(query)}


async def _dead(connection: AsyncConnection, column: ColumnElement[str]) -> dict[str, int]:
    return _by_first(await count_rows(connection, column, along=deliveries.c.created_at, where=IS_DEAD))


def _by_first(counts: Mapping[tuple[str, ...], int]) -> dict[str, int]:
    return {values[0]: number for values, number in counts.items()}


async def _status_words(connection: AsyncConnection, now: datetime) -> dict[str, timedelta]:
    """Return how long the provider has reported each status word of unknown meaning, the longest first."""
    since = func.min(tasks.c.status_since)
    query = select(tasks.c.status_word, since).where(HAS_STATUS_WORD).group_by(tasks.c.status_word).order_by(since)
    rows = await connection.execute(query.limit(MAX_STATUS_WORDS))
    return {row[0]: max(now - row[1], timedelta(0)) for row in rows if row[1]}


async def _age(connection: AsyncConnection, now: datetime, query: Select[Any]) -> timedelta:
    oldest: datetime | None = (await connection.execute(query)).scalar()
    return timedelta(0) if oldest is None else max(now - oldest, timedelta(0))


async def _oldest_due(connection: AsyncConnection, now: datetime) -> list[Select[Any]]:
    """Return queries for the oldest due time of rows without a lease; each reads one end of an index."""
    paused = await paused_names(connection)
    handlers = [name for name in await pending_handlers(connection) if name not in paused]
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
