"""Deletion of rows that are older than the retention period."""

from datetime import datetime

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from service.storage.blob_store import delete_unreferenced
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.delivery_tables import IS_PENDING, attempts, deliveries, sealed_secrets
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


class SqlRetention:
    """Implements `Retention`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prune(self, *, before: datetime) -> int:
        """Delete callbacks, polls, attempts, inputs and run times of tasks that ended before `before`.

        Quarantined callbacks are deleted by their own age. Inputs that a pending delivery needs stay. Sealed secrets
        are deleted with them, and once no delivery needs them. Returns the number of deleted rows.
        """
        deleted = sum([await self._delete(table, where) for table, where in _prunable(before)])
        return deleted + await self._delete_secrets(before) + await self._delete_references(before)

    async def _delete_secrets(self, before: datetime) -> int:
        """Lock sealed secrets, then delete those that are still unneeded; a replay locks what it needs."""
        waiting = select(deliveries.c.id).where(deliveries.c.task_id == sealed_secrets.c.task_id, IS_PENDING)
        unneeded = no_longer_needed() | _ended_before(sealed_secrets.c.task_id, before) & ~waiting.exists()
        chosen = select(sealed_secrets.c.id).where(unneeded).limit(ROWS_PER_DELETE).with_for_update(skip_locked=True)
        again = delete(sealed_secrets).where(in_list(sealed_secrets.c.id, "ids"), unneeded)
        deleted, last = 0, ROWS_PER_DELETE
        while last == ROWS_PER_DELETE:
            async with self._database.writing() as write:
                ids = (await write.connection.execute(chosen)).scalars().all()
                last = (await write.connection.execute(again, {"ids": ids})).rowcount if ids else 0
            deleted += last
        return deleted

    async def _delete(self, table: Table, where: ColumnElement[bool]) -> int:
        """Delete in short transactions of ROWS_PER_DELETE rows, so that other writers do not wait long."""
        key = tuple_(*table.primary_key.columns)
        selected = select(*table.primary_key.columns).where(where).limit(ROWS_PER_DELETE)
        deleted, last = 0, ROWS_PER_DELETE
        while last == ROWS_PER_DELETE:
            async with self._database.writing() as write:
                last = (await write.connection.execute(delete(table).where(key.in_(selected)))).rowcount
            deleted += last
        return deleted

    async def _delete_references(self, before: datetime) -> int:
        """Delete references to shared inputs, and in the same transaction the data without further references."""
        key = tuple_(*input_references.primary_key.columns)
        where = _ended_before(input_references.c.task_id, before)
        selected = select(*input_references.primary_key.columns).where(where).limit(ROWS_PER_DELETE)
        statement = delete(input_references).where(key.in_(selected)).returning(input_references.c.sha256)
        deleted, last = 0, ROWS_PER_DELETE
        while last == ROWS_PER_DELETE:
            async with self._database.writing() as write:
                hashes = (await write.connection.execute(statement)).scalars().all()
                last = len(hashes)
                deleted += last + (await delete_unreferenced(write.connection, hashes) if hashes else 0)
        return deleted


def _prunable(before: datetime) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return the condition of the rows to delete, for each table."""
    needed = select(deliveries.c.id).where(deliveries.c.task_id == inputs.c.task_id, IS_PENDING)
    known = select(tasks.c.id).where(tasks.c.id == inbox.c.task_id)
    own_delivery = deliveries.c.id == attempts.c.delivery_id
    finished = select(deliveries.c.id).where(own_delivery, ~IS_PENDING, _ended_before(deliveries.c.task_id, before))
    named = select(tasks.c.id).where(tasks.c.id == refused_callbacks.c.task_id)
    return [
        (inbox, (inbox.c.received_at < before) & (_ended_before(inbox.c.task_id, before) | ~known.exists())),
        (
            refused_callbacks,
            (refused_callbacks.c.last_at < before)
            & (_ended_before(refused_callbacks.c.task_id, before) | ~named.exists()),
        ),
        (polls, (polls.c.at < before) & _ended_before(polls.c.task_id, before)),
        (attempts, (attempts.c.finished_at < before) & finished.exists()),
        (inputs, _ended_before(inputs.c.task_id, before) & ~needed.exists()),
        (run_times, run_times.c.at < before),
        (task_waits, (task_waits.c.last_at < before) & _ended_before(task_waits.c.task_id, before)),
    ]


def _ended_before(task_id: ColumnElement[str], before: datetime) -> ColumnElement[bool]:
    """Return the condition that the task was settled before `before`, or expired by then and is no longer polled."""
    settled = ENDED & (tasks.c.settled_at < before)
    expired = EXPIRED & tasks.c.due_at.is_(None) & (tasks.c.deadline_at < before)
    return select(tasks.c.id).where(tasks.c.id == task_id, settled | expired).exists()
