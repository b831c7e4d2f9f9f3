"""The queue of tasks to submit or to poll, claimed with a lease and a fence."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, Executable, Select, bindparam, case, literal, select, update

from service.domain.fair_share import choose_in_turn
from service.domain.submission_limits import LimitName, Limits, LimitUsage
from service.domain.task import Status, Task, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime, in_list
from service.storage.credit_pauses import begin_probe
from service.storage.daily_budget import spent_today
from service.storage.database import Database
from service.storage.dialects import advisory_lock, prefer_order_of_indexes
from service.storage.limit_usage import add_prices, count_usage
from service.storage.scan_starts import ScanStarts
from service.storage.tables import POLLED, QUEUED, SUBMITTING, tasks
from service.storage.task_rows import TASK_COLUMNS, Values, task_from_row
from service.storage.waiting_clients import (
    LIMIT,
    NOW,
    Candidate,
    heads,
    lock_queued,
    note_turns,
    queue_of,
    to_be_tried,
)

PROBE_CANDIDATES = 20
"""Tasks among which the one is chosen that is tried while the account has no credit; others may wait for a limit."""

MAX_SWEPT = 1000
"""Abandoned submissions of one sweep; the next sweep finds the rest."""


def _unleased_where(wanted: ColumnElement[bool], order: ColumnElement[datetime]) -> Select[str]:
    free = tasks.c.leased_until.is_(None) | (tasks.c.leased_until <= NOW)
    return select(tasks.c.id).where(wanted, free).order_by(order).limit(LIMIT).with_for_update(skip_locked=True)


# Statements of every job, built once.
LEASED = (
    select(tasks.c.id, tasks.c.fence)
    .where(in_list(tasks.c.id, "ids"), tasks.c.leased_until.is_not(None))
    .order_by(tasks.c.id)
    .with_for_update()
)
OVERDUE = _unleased_where(QUEUED & (tasks.c.deadline_at <= NOW), tasks.c.deadline_at)
DUE = _unleased_where(POLLED & (tasks.c.due_at >= bindparam("since")) & (tasks.c.due_at <= NOW), tasks.c.due_at)
OLDEST_DUE_POLL = select(tasks.c.due_at).where(POLLED & tasks.c.due_at.is_not(None)).order_by(tasks.c.due_at).limit(1)
LEASE = (
    update(tasks)
    .where(in_list(tasks.c.id, "ids"))
    .values(leased_until=bindparam("until", type_=UtcDateTime()), fence=tasks.c.fence + 1)
    .returning(*TASK_COLUMNS)
)
LEASE_TO_SUBMIT = LEASE.values(
    status=Status.SUBMITTING.value, submission=tasks.c.submission + 1, submitted_at=NOW, note=None
)


class SqlTaskQueue:
    """Implements `SubmissionQueue` and `PollQueue`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._starts = ScanStarts(oldest=OLDEST_DUE_POLL)

    async def claim_submissions(self, *, now: datetime, until: datetime, limit: int, limits: Limits) -> list[Task]:
        """Move due queued tasks to `submitting`, durably, and return them: clients in turn, the oldest of each first.

        Each gets the next submission number, `submitted_at = now`, a lease `until` and a higher fence.
        """
        async with self._database.writing() as write:
            chosen = await _choose(write.connection, now, limit, limits)
            return await _lease(write.connection, LEASE_TO_SUBMIT, chosen, {"until": until, "now": now})

    async def limit_reached(self, *, now: datetime, limits: Limits) -> LimitName | None:
        """Return the limit that the next due queued task waits for, None if there is none."""
        async with self._database.reading() as connection:
            prefer_order_of_indexes(connection)
            waiting = await heads(connection, now)
            if not waiting:
                return None
            used = await count_usage(connection, now, limits)
            await add_prices(connection, used, {each.bucket for each in waiting})
            reached = [used.obstacle(each.client, each.bucket) for each in waiting]
            return None if None in reached else reached[0]

    async def limit_usage(self, *, now: datetime, limits: Limits, buckets: Collection[str]) -> LimitUsage:
        """Return what `limits` leave at `now`, with the prices of `buckets`."""
        async with self._database.reading() as connection:
            used = await count_usage(connection, now, limits)
            await add_prices(connection, used, buckets)
            return used

    async def spent_today(self, now: datetime, *, budget_each: float) -> dict[str, float]:
        """Return the US dollars of this UTC day by client, see `daily_budget.spent_today`."""
        async with self._database.reading() as connection:
            return await spent_today(connection, now, budget_each)

    async def claim_polls(self, *, now: datetime, until: datetime, limit: int, overdue: bool = True) -> list[Task]:
        """Lease due tasks of any status but queued and submitting, and if `overdue` queued ones past their deadline."""
        async with self._database.writing() as write:
            values = {"now": now, "limit": limit}
            chosen = await _unleased(write.connection, OVERDUE, values) if overdue else []
            if len(chosen) < limit:
                since = await self._starts.find(write.connection, "polls", {}, now)
                values |= {"since": since, "limit": limit - len(chosen)}
                chosen += await _unleased(write.connection, DUE, values)
            return await lease_rows(write.connection, chosen, until)

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
            prefer_order_of_indexes(connection)
            rows = await connection.execute(query.order_by(tasks.c.leased_until).limit(MAX_SWEPT))
            return [*map(task_from_row, rows.all())]


async def _lock_leased(connection: AsyncConnection, claims: Mapping[TaskId, int]) -> list[TaskId]:
    """Return the tasks that are still leased under the claim's fence, locked in id order as units of work do."""
    rows = await connection.execute(LEASED, {"ids": list(claims)})
    return [row.id for row in rows if claims[row.id] == row.fence]


async def _choose(connection: AsyncConnection, now: datetime, limit: int, limits: Limits) -> list[TaskId]:
    """Choose and lock up to `limit` due queued tasks within `limits`, the clients in turn."""
    # two claims at the same time must not exceed a limit, nor choose the same tasks
    await advisory_lock(connection, "submissions")
    prefer_order_of_indexes(connection)
    waiting = await heads(connection, now)
    if not waiting:  # usually: the costs of a day take long to count, and other writers wait
        return []
    used = await count_usage(connection, now, limits)
    if used.full():
        return []
    if used.credit_pause:
        return await _choose_probe(connection, now, used)
    await add_prices(connection, used, {each.bucket for each in waiting})
    chosen = choose_in_turn([[head] for head in waiting], partial(_take, used), limit)
    if chosen and len(chosen) < limit:
        queues = [await queue_of(connection, head.client, now, limit - len(chosen) + 1) for head in chosen]
        await add_prices(connection, used, {each.bucket for queue in queues for each in queue})
        taken = {each.id for each in chosen}
        further = [[each for each in queue if each.id not in taken] for queue in queues]
        chosen += choose_in_turn(further, partial(_take, used), limit - len(chosen))
    locked = await lock_queued(connection, chosen)
    if locked:
        await note_turns(connection, waiting, locked)
    return [each.id for each in locked]


async def _choose_probe(connection: AsyncConnection, now: datetime, used: LimitUsage) -> list[TaskId]:
    """Choose and lock the one task that is tried although the account had no credit; the others wait for its result."""
    candidates = await to_be_tried(connection, now, PROBE_CANDIDATES)
    await add_prices(connection, used, {each.bucket for each in candidates})
    locked = await lock_queued(connection, [each for each in candidates if _take(used, each)])
    if locked:
        await begin_probe(connection, now)
    return [each.id for each in locked]


def _take(used: LimitUsage, candidate: Candidate) -> bool:
    return used.take(candidate.client, candidate.bucket)


async def _unleased(connection: AsyncConnection, wanted: Select[str], values: Values) -> list[TaskId]:
    found = await connection.execute(wanted, values)
    return [TaskId(task_id) for task_id in found.scalars()]


async def lease_rows(connection: AsyncConnection, chosen: Sequence[TaskId], until: datetime) -> list[Task]:
    """Lease rows that this transaction has locked; return the tasks in the order of `chosen`."""
    return await _lease(connection, LEASE, chosen, {"until": until})


async def _lease(
    connection: AsyncConnection, statement: Executable, chosen: Sequence[TaskId], given: Values
) -> list[Task]:
    if not chosen:
        return []
    rows = await connection.execute(statement, {"ids": chosen} | given)
    leased = {task.id: task for task in map(task_from_row, rows.all())}
    return [leased[task_id] for task_id in chosen]
