"""Read queries: tasks, deliveries and the history of a task, without blobs and callback bodies."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, tuple_

from service.domain.history_position import HistoryEntry, HistoryPosition
from service.domain.ports.deliveries import DeliverySelection, DeliveryWindow
from service.domain.ports.search import StatusCount, TaskWindow
from service.domain.ports.tasks import TaskFilter
from service.domain.task import SETTLED, Json, Status, Task, TaskId
from service.storage.database import Database
from service.storage.delivery_list import read_deliveries
from service.storage.tables import events, tasks
from service.storage.task_filters import WHOLE_LIST, filtered
from service.storage.task_history import load_history
from service.storage.task_rows import TASK_COLUMNS, columns_without, rows_to_tasks, task_from_row
from service.storage.task_search import read_counts, read_window

IDS_AT_ONCE = 500
"""Number of ids in one statement; both databases take more."""

ENDED = [status.value for status in (*sorted(SETTLED), Status.EXPIRED)]


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
        query = filtered(select(*columns_without(wanted.without)), wanted, WHOLE_LIST)
        async with self._database.reading() as connection:
            rows = await connection.execute(_newest(query, wanted.limit, wanted.cursor, reverse=wanted.oldest_first))
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
            rows = await connection.execute(_newest(query, 1, None))
            row = rows.one_or_none()
            return None if row is None else task_from_row(row)

    async def history(self, task_id: TaskId, *, after: HistoryPosition | None = None, limit: int) -> list[HistoryEntry]:
        """Return the next `limit` entries of a task's history, oldest first, as plain JSON; events have no data."""
        async with self._database.reading() as connection:
            return await load_history(connection, task_id, after=after, limit=limit)

    async def event_data(self, event_ids: Sequence[str]) -> dict[str, Json]:
        """Return the data of events by their ids."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(events.c.id, events.c.data).where(events.c.id.in_(event_ids)))
            return {row.id: row.data for row in rows}

    async def deliveries(self, wanted: DeliverySelection) -> DeliveryWindow:
        """Return the next deliveries that a bounded read finds, newest first."""
        async with self._database.reading() as connection:
            return await read_deliveries(connection, wanted)


def _newest(query: Select[Any], limit: int, cursor: str | None, *, reverse: bool = False) -> Select[Any]:
    """Return `query` of tasks newest first, after the one with the id `cursor`; an unknown id gives no rows.

    With `reverse` the oldest is first.
    """
    columns = (tasks.c.created_at, tasks.c.id)
    if cursor is not None:
        position = select(*columns).where(tasks.c.id == cursor).scalar_subquery()
        query = query.where(tuple_(*columns) > position if reverse else tuple_(*columns) < position)
    return query.order_by(*(each.asc() if reverse else each.desc() for each in columns)).limit(limit)
