"""The counts of the dashboard. Each reads a bounded part of an index, so that they take as long at a million tasks."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from service.domain.ports.overview import MAX_COUNTED, Attention
from service.domain.task import Status
from service.storage.async_engine import AsyncConnection
from service.storage.database import Database
from service.storage.delivery_tables import IS_DEAD, deliveries
from service.storage.key_rejections import rejected_since
from service.storage.tables import IN_FLIGHT, OPEN, QUEUED, WITHOUT_RESULT, literal_word, tasks, unindexed

IN_DOUBT = IN_FLIGHT & (tasks.c.status == literal_word(Status.IN_DOUBT))


class SqlOverview:
    """Implements `Overview`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attention(self, client: str | None, *, since: datetime) -> Attention:
        """Return what needs attention; tasks without a result since `since`."""
        async with self._database.reading() as connection:
            recent = WITHOUT_RESULT & tasks.c.erased_at.is_(None) & (tasks.c.created_at >= since)
            of_client = [] if client is None else [deliveries.c.client == client]
            dead = select(deliveries.c.id).where(IS_DEAD, *of_client)
            oldest = await _oldest(connection, client)
            return Attention(
                in_doubt=await _bounded(connection, _tasks(IN_DOUBT, client)),
                without_result=await _bounded(connection, _tasks(recent, client, by_client=True)),
                dead=await _bounded(connection, dead),
                queued=await _bounded(connection, _tasks(QUEUED, client, by_client=True)),
                in_flight=await _bounded(connection, _tasks(IN_FLIGHT, client)),
                unsettled_id=oldest[0] if oldest else None,
                unsettled_since=oldest[1] if oldest else None,
                key_rejected_since=await rejected_since(connection) if client is None else None,
            )


def _tasks(where: ColumnElement[bool], client: str | None, *, by_client: bool = False) -> Select[Any]:
    """Return the query of the tasks in a partial index; `by_client`: one of its indexes begins with the client.

    Else the index contains the client. What the query selects decides which index SQLite reads, since it prefers one
    that has all columns: where that could be an index of all tasks, the deadline is selected, which none of them has.
    """
    query = select(tasks.c.deadline_at if by_client and client is None else tasks.c.client).where(where)
    column = tasks.c.client if by_client else unindexed(tasks.c.client)
    return query if client is None else query.where(column == client)


async def _bounded(connection: AsyncConnection, query: Select[Any]) -> int:
    rows = query.limit(MAX_COUNTED + 1).subquery()
    found: int = (await connection.execute(select(func.count()).select_from(rows))).scalar_one()
    return found


async def _oldest(connection: AsyncConnection, client: str | None) -> tuple[str, datetime] | None:
    """Return the id and the time of the oldest open task, from the index of open ones, which has few.

    The deadline is read so that no index of all tasks has every column.
    """
    query = select(tasks.c.id, tasks.c.created_at, tasks.c.deadline_at).where(OPEN)
    if client is not None:
        query = query.where(unindexed(tasks.c.client) == client)
    row = (await connection.execute(query.order_by(tasks.c.created_at).limit(1))).first()
    return None if row is None else (row[0], row[1])
