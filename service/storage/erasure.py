"""Erasing the contents of a task in one transaction. Locks the task, then its deliveries, in the order of their ids."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import RowMapping, delete, select, update

from service.domain.erasure import ERASED, NEVER_DELIVERED, erased, erased_event, require_erasable
from service.domain.errors import Conflict, NotFound
from service.domain.task import Task, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.blob_store import delete_unreferenced
from service.storage.bulk_writes import update_many
from service.storage.database import Database
from service.storage.delivery_tables import attempts, deliveries, sealed_secrets
from service.storage.lookups import in_found
from service.storage.search_index import delete_words
from service.storage.tables import (
    UNREAD_OF_TASK,
    events,
    inbox,
    input_references,
    inputs,
    task_waits,
    tasks,
    unindexed,
    watched_tasks,
)
from service.storage.task_rows import TASK_COLUMNS, changed_task_values, task_from_row

RUNNING = "a delivery of the task is being made: delete the task when it has ended"
CHANGED = "the task has changed meanwhile: try again"


class SqlTaskEraser:
    """Implements `TaskEraser`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def require_idle(self, task: Task, *, now: datetime) -> None:
        """Raise Conflict while a delivery of the task is being made."""
        running = select(deliveries.c.id).where(deliveries.c.task_id == task.id, deliveries.c.leased_until > now)
        async with self._database.reading() as connection:
            if (await connection.execute(running.limit(1))).first():
                raise Conflict(RUNNING)

    async def erase(self, task: Task, *, now: datetime) -> Task:
        """Erase a task, with its inputs, callbacks and the contents of its events and deliveries; return what stays."""
        async with self._database.writing() as write:
            connection = write.connection
            stored = await _locked(connection, task.id)
            if stored.erased_at is not None:
                return stored
            require_erasable(stored)
            if stored.output != task.output:
                raise Conflict(CHANGED)
            await _end_deliveries(connection, task.id, now)
            after = erased(stored, now)
            await update_many(connection, tasks, [changed_task_values(stored, after) | {"id": task.id}])
            await _erase_events(connection, task.id)
            await _delete_inputs(connection, task.id)
            await _erase_callbacks(connection, task.id)
            await delete_words(connection, task.id, stored.params, stored.metadata)
            for table in (sealed_secrets, watched_tasks):
                await connection.execute(delete(table).where(table.c.task_id == task.id))
            await connection.execute(update(task_waits).where(task_waits.c.task_id == task.id).values(detail=None))
            write.topics.add(f"task:{task.id}")
            return after


async def _locked(connection: AsyncConnection, task_id: TaskId) -> Task:
    rows = await connection.execute(select(*TASK_COLUMNS).where(tasks.c.id == task_id).with_for_update())
    row = rows.one_or_none()
    if row is None:
        raise NotFound("there is no such task")
    return task_from_row(row)


async def _end_deliveries(connection: AsyncConnection, task_id: TaskId, now: datetime) -> None:
    """Make what is pending a dead letter with the reason, and erase targets, errors and answers of receivers."""
    of_task = (
        select(deliveries.c.id, deliveries.c.status, deliveries.c.handler, deliveries.c.target)
        .add_columns(deliveries.c.last_error, deliveries.c.leased_until)
        .where(deliveries.c.task_id == task_id)
        .order_by(unindexed(deliveries.c.id))  # else an index of all deliveries has the order
        .with_for_update()
    )
    rows: Sequence[RowMapping] = (await connection.execute(of_task)).mappings().all()
    if any(row["leased_until"] is not None and row["leased_until"] > now for row in rows):
        raise Conflict(RUNNING)
    same = [
        {
            "id": row["id"],
            "target": {"handler": row["handler"]} if row["target"] else {},
            "last_error": None if row["last_error"] is None else ERASED,
        }
        for row in rows
        if row["status"] != "pending"
    ]
    await update_many(connection, deliveries, same)
    ended = {"status": "dead", "due_at": None, "leased_until": None, "fault": "ours", "finished_at": now}
    pending = [
        {"id": row["id"], "target": {"handler": row["handler"]} if row["target"] else {}, **ended}
        | {"last_error": NEVER_DELIVERED}
        for row in rows
        if row["status"] == "pending"
    ]
    await update_many(connection, deliveries, pending)
    own = in_found(attempts.c.delivery_id, select(deliveries.c.id).where(deliveries.c.task_id == task_id))
    await connection.execute(update(attempts).where(own, attempts.c.error.is_not(None)).values(error=ERASED))
    await connection.execute(update(attempts).where(own, attempts.c.answer_body.is_not(None)).values(answer_body=None))


async def _erase_events(connection: AsyncConnection, task_id: TaskId) -> None:
    rows = await connection.execute(select(events.c.seq, events.c.data).where(events.c.task_id == task_id))
    await update_many(connection, events, [{"seq": row.seq, "data": erased_event(row.data)} for row in rows])


async def _delete_inputs(connection: AsyncConnection, task_id: TaskId) -> None:
    """Delete inputs, payload and `meta_data`, and shared data to which no other task refers."""
    await connection.execute(delete(inputs).where(inputs.c.task_id == task_id))
    references = delete(input_references).where(input_references.c.task_id == task_id)
    hashes = (await connection.execute(references.returning(input_references.c.sha256))).scalars().all()
    if hashes:
        await delete_unreferenced(connection, hashes)


async def _erase_callbacks(connection: AsyncConnection, task_id: TaskId) -> None:
    """Erase the bodies and headers of callbacks; their times stay in the history. Unread ones change nothing more.

    What the worker of the inbox has locked is left to it: it waits for the task, and then erases what it has read.
    """
    free = select(inbox.c.digest).where(inbox.c.task_id == task_id).with_for_update(skip_locked=True)
    unread, others = in_found(inbox.c.digest, free.where(UNREAD_OF_TASK)), in_found(inbox.c.digest, free)
    await connection.execute(delete(inbox).where(unread))
    await connection.execute(update(inbox).where(others).values(body=b"", headers={}))
