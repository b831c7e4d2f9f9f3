"""Deletion of rows that are older than the retention period."""

from datetime import datetime

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from service.storage.database import Database
from service.storage.tables import (
    ENDED,
    EXPIRED,
    IS_PENDING,
    attempts,
    deliveries,
    inbox,
    inputs,
    polls,
    run_times,
    tasks,
)


class SqlRetention:
    """Implements `Retention`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prune(self, *, before: datetime) -> int:
        """Forget raw callbacks, polls, attempts, inputs and run times of tasks that ended before `before`.

        Quarantined callbacks go by their own age. What a pending delivery still carries stays. Returns how many rows.
        """
        return sum([await self._delete(table, where) for table, where in _forgettable(before)])

    async def _delete(self, table: Table, where: ColumnElement[bool]) -> int:
        """Delete in portions, each a transaction of its own: callbacks wait for their turn behind no long one."""
        key = tuple_(*table.primary_key.columns)
        portion = delete(table).where(key.in_(select(*table.primary_key.columns).where(where).limit(ROWS_PER_DELETE)))
        gone, last = 0, ROWS_PER_DELETE
        while last == ROWS_PER_DELETE:
            async with self._database.writing() as write:
                last = (await write.connection.execute(portion)).rowcount
            gone += last
        return gone


ROWS_PER_DELETE = 2000


def _forgettable(before: datetime) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return what to forget of each table."""
    carried = select(deliveries.c.id).where(deliveries.c.task_id == inputs.c.task_id, IS_PENDING)
    return [
        (inbox, (inbox.c.received_at < before) & (_over(inbox.c.task_id, before) | ~_known(inbox.c.task_id))),
        (polls, (polls.c.at < before) & _over(polls.c.task_id, before)),
        (attempts, (attempts.c.finished_at < before) & _through(before)),
        (inputs, _over(inputs.c.task_id, before) & ~carried.exists()),
        (run_times, run_times.c.at < before),
    ]


def _known(task_id: ColumnElement[str]) -> ColumnElement[bool]:
    return select(tasks.c.id).where(tasks.c.id == task_id).exists()


def _over(task_id: ColumnElement[str], before: datetime) -> ColumnElement[bool]:
    """Return the condition that the task has been settled for as long, or expired and asked about no more."""
    settled = ENDED & (tasks.c.settled_at < before)
    expired = EXPIRED & tasks.c.due_at.is_(None) & (tasks.c.deadline_at < before)
    return select(tasks.c.id).where(tasks.c.id == task_id, settled | expired).exists()


def _through(before: datetime) -> ColumnElement[bool]:
    """Return the condition that an attempt's delivery is at its end, and its task has been for as long."""
    own = deliveries.c.id == attempts.c.delivery_id
    return select(deliveries.c.id).where(own, ~IS_PENDING, _over(deliveries.c.task_id, before)).exists()
