"""Samples for the page about health: a bounded number of rows of each time, over the indexes of the lists."""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import Select, Table, func, literal, select, union_all

from service.domain.ports.health_samples import SAMPLE, DeliverySample, TaskSample
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime
from service.storage.database import Database
from service.storage.delivery_tables import deliveries
from service.storage.dialects import allow_whole_tables
from service.storage.tables import inbox, tasks, unindexed

KEEP = timedelta(hours=1)
"""How long the cost of a day that is over is used: few tasks change it afterwards."""

MAX_KEPT = 2_000
SECONDS = 1.0
"""Time in which days are read: a day with very many tasks of one client takes some tenths of a second."""

CALLED_BACK = (
    select(func.max(inbox.c.received_at))
    .where(inbox.c.task_id == tasks.c.id, inbox.c.received_at <= tasks.c.settled_at)
    .scalar_subquery()
)
LATE = (
    select(func.min(inbox.c.received_at))
    .where(inbox.c.task_id == tasks.c.id, inbox.c.received_at > tasks.c.settled_at)
    .scalar_subquery()
)
TASK = select(
    tasks.c.status,
    tasks.c.settled_by,
    tasks.c.polls,
    tasks.c.created_at,
    tasks.c.settled_at,
    CALLED_BACK.label("called_back_at"),
    LATE.label("late_callback_at"),
)
DELIVERY = select(deliveries.c.status, deliveries.c.created_at, deliveries.c.finished_at)


class SqlHealthSamples:
    """Implements `HealthSamples`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._days: dict[tuple[date, str | None], tuple[datetime, float]] = {}

    async def tasks(self, times: Sequence[datetime], *, client: str | None) -> list[TaskSample]:
        """Return the newest SAMPLE tasks that were created in each point, of one client or (None) of all."""
        async with self._database.reading() as connection:
            rows = await connection.execute(_sampled(TASK, tasks, times, client))
            return [TaskSample(**row) for row in rows.mappings()]

    async def deliveries(self, times: Sequence[datetime], *, client: str | None) -> list[DeliverySample]:
        """Return the newest SAMPLE deliveries of events of each point."""
        async with self._database.reading() as connection:
            rows = await connection.execute(_sampled(DELIVERY, deliveries, times, client))
            return [DeliverySample(**row) for row in rows.mappings()]

    async def spend(self, days: Sequence[date], now: datetime, *, client: str | None) -> dict[date, float]:
        """Return the reported cost in US dollars of the submissions of each UTC day; past days may be an hour old.

        The newest day is read first; days for which there is no time now are left out, and read by a later call.
        """
        if len(self._days) > MAX_KEPT:
            self._days.clear()
        found: dict[date, float] = {}
        async with self._database.reading() as connection:
            await allow_whole_tables(connection)
            until = time.monotonic() + SECONDS  # from here: the wait for a connection must not leave out the newest day
            for day in sorted(days, reverse=True):
                if time.monotonic() < until:
                    found[day] = await self._spent(connection, day, now, client)
                elif (day, client) in self._days:
                    found[day] = self._days[day, client][1]
        return found

    async def _spent(self, connection: AsyncConnection, day: date, now: datetime, client: str | None) -> float:
        read_at, cost = self._days.get((day, client), (None, 0.0))
        if read_at is not None and timedelta() <= now - read_at < KEEP and day < now.date():
            return cost
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        query = select(func.coalesce(func.sum(tasks.c.cost), 0.0)).where(
            tasks.c.submitted_at >= begin, tasks.c.submitted_at < begin + timedelta(days=1)
        )
        query = query if client is None else query.where(unindexed(tasks.c.client) == client)
        cost = float((await connection.execute(query)).scalar_one())
        self._days[day, client] = (now, cost)
        return cost


def _sampled(query: Select[Any], table: Table, times: Sequence[datetime], client: str | None) -> Any:
    """Return `query` for each point, with its number: the newest rows of `table` in it."""
    found = []
    for point, (begin, end) in enumerate(pairwise(times)):
        within = query.where(
            table.c.created_at >= literal(begin, UtcDateTime()), table.c.created_at < literal(end, UtcDateTime())
        )
        within = within if client is None else within.where(table.c.client == client)
        newest = within.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(SAMPLE).subquery()
        found.append(select(literal(point).label("point"), newest))
    return union_all(*found)
