"""The queue of tasks to submit or to poll, claimed with a lease and a fence."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Integer, Select, bindparam, case, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.ports.queues import Limits
from service.domain.task import Status, Task, TaskId
from service.storage.column_types import UtcDateTime, in_list
from service.storage.daily_budget import affordable, budget_spent
from service.storage.database import Database
from service.storage.dialects import advisory_lock
from service.storage.tables import IN_FLIGHT, POLLED, QUEUED, SUBMITTING, UNREAD, inbox, tasks
from service.storage.task_rows import TASK_COLUMNS, Values, task_from_row

MAX_SWEPT = 1000
"""Abandoned submissions of one sweep; the next sweep finds the rest."""

NOW = bindparam("now", type_=UtcDateTime())
LIMIT = bindparam("limit", type_=Integer())


def _unleased_where(wanted: ColumnElement[bool], order: ColumnElement[datetime]) -> Select[str]:
    free = tasks.c.leased_until.is_(None) | (tasks.c.leased_until <= NOW)
    return select(tasks.c.id).where(wanted, free).order_by(order).limit(LIMIT).with_for_update(skip_locked=True)


HAS_UNREAD_CALLBACK = select(inbox.c.digest).where(inbox.c.task_id == tasks.c.id, UNREAD).exists()
"""The task has an unread callback, so its submission was sent even if its status is `queued`."""

# Statements of every job, built once.
OLDEST_DUE = (
    select(tasks.c.id, tasks.c.bucket)
    .where(QUEUED, tasks.c.due_at <= NOW, tasks.c.deadline_at > NOW, ~HAS_UNREAD_CALLBACK)
    .order_by(tasks.c.created_at, tasks.c.id)
    .limit(LIMIT)
)
CANDIDATES = OLDEST_DUE.with_for_update(skip_locked=True, of=tasks)
LEASED = (
    select(tasks.c.id, tasks.c.fence)
    .where(in_list(tasks.c.id, "ids"), tasks.c.leased_until.is_not(None))
    .order_by(tasks.c.id)
    .with_for_update()
)
OVERDUE = _unleased_where(QUEUED & (tasks.c.deadline_at <= NOW), tasks.c.deadline_at)
DUE = _unleased_where(POLLED & (tasks.c.due_at <= NOW), tasks.c.due_at)

Candidate = tuple[TaskId, str]
"""A task's id and its bucket."""


class SqlTaskQueue:
    """Implements `SubmissionQueue` and `PollQueue`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim_submissions(self, *, now: datetime, until: datetime, limit: int, limits: Limits) -> list[Task]:
        """Move due queued tasks to `submitting`, durably, and return them, first in first out.

        Each gets the next submission number, `submitted_at = now`, a lease `until` and a higher fence.
        """
        async with self._database.writing() as write:
            chosen = await _choose(write.connection, now, limit, limits)
            changes = {
                "status": Status.SUBMITTING.value,
                "submission": tasks.c.submission + 1,
                "submitted_at": now,
                "note": None,
            }
            return await _lease(write.connection, chosen, until, changes)

    async def limit_reached(self, *, now: datetime, limits: Limits) -> str | None:
        """Return the limit that due queued tasks wait for: `max_in_flight`, `budget`, or None."""
        async with self._database.reading() as connection:
            first = (await connection.execute(OLDEST_DUE, {"now": now, "limit": 1})).first()
            if first is None:
                return None
            if limits.max_in_flight is not None and await _count_in_flight(connection) >= limits.max_in_flight:
                return "max_in_flight"
            candidate = (TaskId(first.id), first.bucket)
            if limits.budget is None or await affordable(connection, [candidate], now, limits.budget):
                return None
            return "budget"

    async def note_waiting(self, note: str, *, now: datetime) -> None:
        """Store in `note` of every due queued task why it waits, except for locked tasks; a claim removes the note."""
        due = QUEUED & (tasks.c.due_at <= now) & (tasks.c.deadline_at > now)
        changed = select(tasks.c.id).where(due, tasks.c.note.is_distinct_from(note)).with_for_update(skip_locked=True)
        async with self._database.writing() as write:
            await write.connection.execute(update(tasks).where(tasks.c.id.in_(changed)).values(note=note))

    async def budget_spent(self, now: datetime) -> float:
        """Return the cost of this UTC day's submissions in US dollars; the bucket's mean replaces an unknown cost."""
        async with self._database.reading() as connection:
            return await budget_spent(connection, now)

    async def claim_polls(self, *, now: datetime, until: datetime, limit: int) -> list[Task]:
        """Lease due tasks of any status but queued and submitting, and queued ones that are past their deadline."""
        async with self._database.writing() as write:
            chosen = await _unleased(write.connection, OVERDUE, now, limit)
            if len(chosen) < limit:
                chosen += await _unleased(write.connection, DUE, now, limit - len(chosen))
            return await _lease(write.connection, chosen, until, {})

    async def renew(self, claims: Mapping[TaskId, int], *, until: datetime) -> set[TaskId]:
        """Extend leases to `until`; return the ids that are still held under their fence."""
        if not claims:
            return set()
        async with self._database.writing() as write:
            held = await _lock_leased(write.connection, claims)
            await write.connection.execute(update(tasks).where(tasks.c.id.in_(held)).values(leased_until=until))
            return set(held)

    async def release(self, claims: Mapping[TaskId, int], *, due_at: datetime) -> None:
        """Release leases that are still held under their fence; polls are due again at `due_at`.

        The request of a released submission may have been sent: it stays `submitting`, and the sweep finds it from
        `due_at` on.
        """
        if not claims:
            return
        due = literal(due_at, UtcDateTime())
        released = {
            "leased_until": case((SUBMITTING, due), else_=None),
            "due_at": case((tasks.c.due_at.is_(None), None), else_=due),
        }
        async with self._database.writing() as write:
            held = await _lock_leased(write.connection, claims)
            await write.connection.execute(update(tasks).where(tasks.c.id.in_(held)).values(released))
            write.topics.add("reconcile")

    async def sweep(self, *, now: datetime) -> list[Task]:
        """Return tasks that are `submitting` and whose lease has run out: their submission is in doubt."""
        abandoned = tasks.c.leased_until.is_(None) | (tasks.c.leased_until <= now)
        query = select(*TASK_COLUMNS).where(SUBMITTING, abandoned)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(tasks.c.leased_until).limit(MAX_SWEPT))
            return [task_from_row(row) for row in rows.mappings()]


async def _lock_leased(connection: AsyncConnection, claims: Mapping[TaskId, int]) -> list[TaskId]:
    """Return the tasks that are still leased under the claim's fence, locked in id order as units of work do."""
    rows = await connection.execute(LEASED, {"ids": list(claims)})
    return [row.id for row in rows if claims[row.id] == row.fence]


async def _choose(connection: AsyncConnection, now: datetime, limit: int, limits: Limits) -> list[TaskId]:
    if limits.max_in_flight is not None or limits.budget is not None:
        await advisory_lock(connection, "submissions")  # two claims at the same time must not exceed a limit
    if limits.max_in_flight is not None:
        limit = min(limit, limits.max_in_flight - await _count_in_flight(connection))
    if limit <= 0:
        return []
    rows = await connection.execute(CANDIDATES, {"now": now, "limit": limit})
    candidates: Sequence[Candidate] = [(TaskId(row.id), row.bucket) for row in rows]
    if limits.budget is not None and candidates:
        candidates = await affordable(connection, candidates, now, limits.budget)
    return [task_id for task_id, _ in candidates]


async def _count_in_flight(connection: AsyncConnection) -> int:
    counted = await connection.execute(select(func.count()).select_from(tasks).where(IN_FLIGHT))
    return counted.scalar_one()


async def _unleased(connection: AsyncConnection, wanted: Select[str], now: datetime, limit: int) -> list[TaskId]:
    found = await connection.execute(wanted, {"now": now, "limit": limit})
    return [TaskId(task_id) for task_id in found.scalars()]


async def _lease(connection: AsyncConnection, chosen: Sequence[TaskId], until: datetime, changes: Values) -> list[Task]:
    """Lease rows that this transaction has locked, with `changes`; return the tasks in the order of `chosen`."""
    if not chosen:
        return []
    values = {"leased_until": until, "fence": tasks.c.fence + 1} | changes
    statement = update(tasks).where(in_list(tasks.c.id, "ids")).values(values).returning(*TASK_COLUMNS)
    rows = await connection.execute(statement, {"ids": chosen})
    leased = {row["id"]: task_from_row(row) for row in rows.mappings()}
    return [leased[task_id] for task_id in chosen]
