"""Deletion of rows that are older than the retention period.

Each table is read in pages, over an index that has the order. A pass that has read many rows that stay ends there, and
the next one continues: reading all rows at every pass would take as long as the service has been in use.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Select, Table, delete, literal, select, true, tuple_

from service.storage.async_engine import AsyncConnection
from service.storage.blob_store import delete_unreferenced
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.delivery_tables import IS_PENDING, attempts, deliveries, pending_of_task, sealed_secrets
from service.storage.lookups import first_value
from service.storage.sealed_secrets import no_longer_needed
from service.storage.tables import (
    ENDED,
    EXPIRED,
    inbox,
    input_references,
    inputs,
    polls,
    refused_callbacks,
    run_times,
    task_waits,
    tasks,
)

ROWS_PER_DELETE = 2000
"""Rows of a page, and so of a transaction: other writers do not wait long."""

KEPT_PER_PASS = 20_000
"""Rows that stay that a pass reads of a table."""

Delete = Callable[[AsyncConnection, ColumnElement[bool]], Awaitable[int]]


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """The rows of a table to delete: of those with `read`, in the order of an index, the ones for which `old` holds.

    `order` is unique. `delete` replaces the plain DELETE of the rows with a condition, and returns their number.
    """

    table: Table
    order: tuple[Column[Any], ...]
    old: ColumnElement[bool]
    read: ColumnElement[bool] | None = None
    delete: Delete | None = None

    def page(self, after: Sequence[object] | None) -> Select[Any]:
        """Return the query for the order of the next rows, and whether each is old."""
        read = [self.read] if self.read is not None else []
        after_it = [self._columns() > self._values(after)] if after else []
        query = select(*self.order, self.old.label("old")).where(*read, *after_it)
        return query.order_by(*self.order).limit(ROWS_PER_DELETE)

    def within(self, rows: Sequence[Row[Any]]) -> ColumnElement[bool]:
        """Return the condition of the old rows of a page."""
        first, last = self._columns() >= self._values(rows[0][:-1]), self._columns() <= self._values(rows[-1][:-1])
        return first & last & self.old

    def _columns(self) -> ColumnElement[Any]:
        return tuple_(*self.order)

    def _values(self, values: Sequence[object]) -> ColumnElement[Any]:
        return tuple_(*(literal(value, column.type) for value, column in zip(values, self.order, strict=True)))


@dataclass
class SqlRetention:
    """Implements `Retention`."""

    database: Database
    _reached: dict[str, Sequence[object] | None] = field(default_factory=dict)

    async def prune(self, *, before: datetime) -> int:
        """Delete callbacks, polls, attempts, inputs and run times of tasks that ended before `before`.

        Quarantined callbacks are deleted by their own age. Inputs that a pending delivery needs stay. Sealed secrets
        are deleted with them, and once no delivery needs them. Returns the number of deleted rows.
        """
        return sum([await self._prune(each) for each in _prunable(before)])

    async def _prune(self, rows: Prunable) -> int:
        """Delete old rows from where the last pass ended; after the end of a table, the next pass begins again."""
        name = rows.table.name
        deleted = kept = 0
        while kept < KEPT_PER_PASS:
            async with self.database.reading() as connection:
                page = (await connection.execute(rows.page(self._reached.get(name)))).all()
            old = sum(row.old for row in page)
            if old:
                deleted += await self._delete(rows, rows.within(page))
            kept += len(page) - old
            self._reached[name] = page[-1][:-1] if len(page) == ROWS_PER_DELETE else None
            if self._reached[name] is None:
                break
        return deleted

    async def _delete(self, rows: Prunable, where: ColumnElement[bool]) -> int:
        async with self.database.writing() as write:
            if rows.delete is not None:
                return await rows.delete(write.connection, where)
            return (await write.connection.execute(delete(rows.table).where(where))).rowcount


def _prunable(before: datetime) -> list[Prunable]:
    """Return the rows to delete of each table."""
    return [*_of_tasks(before), *_inputs(before), _secrets(before)]


def _of_tasks(before: datetime) -> list[Prunable]:
    known = first_value(tasks.c.id, tasks.c.id == inbox.c.task_id)
    named = first_value(tasks.c.id, tasks.c.id == refused_callbacks.c.task_id)
    own = deliveries.c.id == attempts.c.delivery_id
    finished = first_value(deliveries.c.id, own, ~IS_PENDING, _ended_before(deliveries.c.task_id, before))
    unknown = (refused_callbacks.c.last_at < before) & named.is_(None)
    return [
        _by_time(inbox.c.received_at, before, _ended_before(inbox.c.task_id, before) | known.is_(None)),
        Prunable(
            table=refused_callbacks,
            order=tuple(refused_callbacks.primary_key),
            old=(refused_callbacks.c.last_at < before) & _ended_before(refused_callbacks.c.task_id, before) | unknown,
        ),
        _by_time(polls.c.at, before, _ended_before(polls.c.task_id, before)),
        _by_time(attempts.c.finished_at, before, finished.is_not(None)),
        _by_time(run_times.c.at, before, true()),
        _by_time(task_waits.c.last_at, before, _ended_before(task_waits.c.task_id, before)),
    ]


def _by_time(time: Column[Any], before: datetime, old: ColumnElement[bool]) -> Prunable:
    return Prunable(table=time.table, order=(time, *time.table.primary_key), old=old, read=time < before)


def _inputs(before: datetime) -> list[Prunable]:
    needed = first_value(deliveries.c.id, deliveries.c.task_id == inputs.c.task_id, pending_of_task())
    ended = _ended_before(inputs.c.task_id, before)
    return [
        Prunable(table=inputs, order=tuple(inputs.primary_key), old=ended & needed.is_(None)),
        Prunable(
            table=input_references,
            order=tuple(input_references.primary_key),
            old=_ended_before(input_references.c.task_id, before),
            delete=_delete_references,
        ),
    ]


async def _delete_references(connection: AsyncConnection, where: ColumnElement[bool]) -> int:
    """Delete references to shared inputs, and in the same transaction the data without further references."""
    statement = delete(input_references).where(where).returning(input_references.c.sha256)
    hashes = (await connection.execute(statement)).scalars().all()
    return len(hashes) + (await delete_unreferenced(connection, hashes) if hashes else 0)


def _secrets(before: datetime) -> Prunable:
    waiting = first_value(deliveries.c.id, deliveries.c.task_id == sealed_secrets.c.task_id, pending_of_task())
    unneeded = no_longer_needed() | _ended_before(sealed_secrets.c.task_id, before) & waiting.is_(None)

    async def remove(connection: AsyncConnection, where: ColumnElement[bool]) -> int:
        """Lock sealed secrets, then delete those that are still unneeded; a replay locks what it needs."""
        chosen = select(sealed_secrets.c.id).where(where).with_for_update(skip_locked=True)
        ids = (await connection.execute(chosen)).scalars().all()
        again = delete(sealed_secrets).where(in_list(sealed_secrets.c.id, "ids"), unneeded)
        return (await connection.execute(again, {"ids": ids})).rowcount if ids else 0

    return Prunable(table=sealed_secrets, order=(sealed_secrets.c.id,), old=unneeded, delete=remove)


def _ended_before(task_id: ColumnElement[str], before: datetime) -> ColumnElement[bool]:
    """Return the condition that the task was settled before `before`, or expired by then and is no longer polled."""
    settled = ENDED & (tasks.c.settled_at < before)
    expired = EXPIRED & tasks.c.due_at.is_(None) & (tasks.c.deadline_at < before)
    return first_value(tasks.c.id, tasks.c.id == task_id, settled | expired).is_not(None)
