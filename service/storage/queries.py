"""Read queries: tasks, deliveries and the history of a task, without blobs and callback bodies."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, func, select, tuple_

from service.domain.ports.search import StatusCount, TaskWindow
from service.domain.ports.tasks import DeliveryView, TaskFilter
from service.domain.task import SETTLED, Json, Status, Task, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.database import Database
from service.storage.delivery_tables import DEAD, DELIVERED, IS_DEAD, PENDING, REQUESTED, deliveries
from service.storage.tables import coalesced, events, tasks, unindexed
from service.storage.task_history import load_history
from service.storage.task_rows import TASK_COLUMNS, task_from_row
from service.storage.task_search import columns_without, filtered, read_counts, read_window, rows_to_tasks

DELIVERY_COLUMNS = (
    deliveries.c.id,
    deliveries.c.task_id,
    deliveries.c.client,
    deliveries.c.event_id,
    events.c.type.label("event_type"),
    deliveries.c.handler,
    deliveries.c.status,
    deliveries.c.attempts,
    deliveries.c.due_at,
    deliveries.c.fault,
    deliveries.c.last_error,
    deliveries.c.created_at,
    deliveries.c.finished_at,
    REQUESTED,
    deliveries.c.endpoint_id,
)
DELIVERIES = select(*DELIVERY_COLUMNS).join_from(deliveries, events, events.c.id == deliveries.c.event_id)
IDS_AT_ONCE = 500
"""Number of ids in one statement; both databases take more."""

ENDED = [status.value for status in (*sorted(SETTLED), Status.EXPIRED)]
STATUSES = {"pending": PENDING, "delivered": DELIVERED, "dead": DEAD}


class SqlTaskQueries:
    """Implements `TaskQueries`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def task(self, task_id: TaskId) -> Task | None:
        """Return one task, None if it is unknown."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(*TASK_COLUMNS).where(tasks.c.id == task_id))
            row = rows.one_or_none()
            return None if row is None else task_from_row(row)

    async def ended(self, task_ids: Collection[TaskId]) -> list[TaskId]:
        """Return those of the tasks that are settled or expired; at most IDS_AT_ONCE are read in one statement."""
        ids, found = list(task_ids), list[TaskId]()
        async with self._database.reading() as connection:
            for begin in range(0, len(ids), IDS_AT_ONCE):
                wanted = select(tasks.c.id).where(tasks.c.id.in_(ids[begin : begin + IDS_AT_ONCE]))
                found += (await connection.scalars(wanted.where(tasks.c.status.in_(ENDED)))).all()
        return found

    async def tasks(self, wanted: TaskFilter) -> list[Task]:
        """Return tasks, newest first."""
        query = filtered(select(*columns_without(wanted.without)), wanted)
        async with self._database.reading() as connection:
            rows = await connection.execute(
                _newest(query, tasks, wanted.limit, wanted.cursor, reverse=wanted.oldest_first)
            )
            return rows_to_tasks(rows.all(), wanted.without)

    async def window(self, wanted: TaskFilter) -> TaskWindow:
        """Return the next tasks that a bounded read finds, newest first; with words in the order of submission."""
        async with self._database.reading() as connection:
            return await read_window(connection, wanted)

    async def status_counts(self, wanted: TaskFilter) -> list[StatusCount]:
        """Return how many tasks of each status pass the filter, as far as a bounded read knows."""
        async with self._database.reading() as connection:
            return await read_counts(connection, wanted)

    async def newest_with_key(self, client: str, prefix: str, since: datetime) -> Task | None:
        """Return the newest task of `client` since then whose idempotency key begins with `prefix`, or None.

        It reads the client's tasks since then, over the index of its list.
        """
        query = select(*TASK_COLUMNS).where(
            tasks.c.client == client,
            tasks.c.created_at >= since,
            func.substr(tasks.c.idempotency_key, 1, len(prefix)) == prefix,
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(_newest(query, tasks, 1, None))
            row = rows.one_or_none()
            return None if row is None else task_from_row(row)

    async def history(self, task_id: TaskId, *, data: bool = True) -> list[Json]:
        """Return every event, callback, poll, delivery and attempt of a task, oldest first, as plain JSON."""
        async with self._database.reading() as connection:
            return await load_history(connection, task_id, data=data)

    async def event_data(self, event_ids: Sequence[str]) -> dict[str, Json]:
        """Return the data of events by their ids."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(events.c.id, events.c.data).where(events.c.id.in_(event_ids)))
            return {row.id: row.data for row in rows}

    async def deliveries(
        self,
        *,
        client: str | None,
        status: str | None,
        handler: str | None,
        limit: int,
        cursor: str | None,
        fault: str | None = None,
    ) -> list[DeliveryView]:
        """Return deliveries, newest first; with `fault` the dead letters for which that party is responsible."""
        few = fault is not None or status in {"dead", "pending"}  # rows of one partial index, however many there are
        query = DELIVERIES
        for column, value in ((deliveries.c.client, client), (deliveries.c.handler, handler)):
            query = query if value is None else query.where((unindexed(column) if few else column) == value)
        if fault is not None:
            query = query.where(IS_DEAD, deliveries.c.fault == fault)
        if status is not None:  # known statuses as literals, so that the partial indexes fit
            query = query.where(deliveries.c.status == STATUSES.get(status, status))
        async with self._database.reading() as connection:
            order = coalesced(deliveries.c.created_at) if status == "pending" else deliveries.c.created_at
            rows = await connection.execute(_newest(query, deliveries, limit, cursor, created_at=order))
            return [DeliveryView(**row) for row in rows.mappings()]


def _newest(
    query: Select[Any],
    table: Table,
    limit: int,
    cursor: str | None,
    *,
    reverse: bool = False,
    created_at: ColumnElement[datetime] | None = None,
) -> Select[Any]:
    """Return `query` newest first, after the row with the id `cursor`; an unknown id gives no rows.

    With `reverse` the oldest is first. `created_at` is an expression for the time that no index has.
    """
    columns = (table.c.created_at if created_at is None else created_at, table.c.id)
    if cursor is not None:
        position = select(table.c.created_at, table.c.id).where(table.c.id == cursor).scalar_subquery()
        query = query.where(tuple_(*columns) > position if reverse else tuple_(*columns) < position)
    return query.order_by(*(each.asc() if reverse else each.desc() for each in columns)).limit(limit)


async def delivery_view(connection: AsyncConnection, delivery_id: str) -> DeliveryView | None:
    """Return one delivery as clients see it, None if it is unknown."""
    rows = await connection.execute(DELIVERIES.where(deliveries.c.id == delivery_id))
    row = rows.mappings().one_or_none()
    return None if row is None else DeliveryView(**row)
