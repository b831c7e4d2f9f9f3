"""Tasks whose progress somebody watches, in any process: one row for each, valid until a time."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import bindparam, case, delete, select, update

from service.domain.task import Status, Task, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime, in_list
from service.storage.database import Database
from service.storage.dialects import insert
from service.storage.lookups import first_value, in_found
from service.storage.tables import coalesced, literal_word, one_of, tasks, unindexed, watched_tasks
from service.storage.task_queue import lease_rows
from service.storage.waiting_clients import LIMIT, NOW

BEFORE = bindparam("before", type_=UtcDateTime())

WATCHED = select(watched_tasks.c.task_id).where(watched_tasks.c.until > NOW).limit(1)
CLAIMED = (
    select(tasks.c.id)
    .join_from(watched_tasks, tasks, tasks.c.id == watched_tasks.c.task_id)
    .where(
        in_found(tasks.c.id, select(watched_tasks.c.task_id).where(watched_tasks.c.until > NOW)),
        watched_tasks.c.until > NOW,
        watched_tasks.c.polled_at.is_(None) | (watched_tasks.c.polled_at <= BEFORE),
        unindexed(tasks.c.status) == literal_word(Status.IN_PROGRESS),
        unindexed(tasks.c.upstream_id).is_not(None),
        # a time that is still to come is of before the clock moved back
        (coalesced(tasks.c.submitted_at) <= BEFORE) | (coalesced(tasks.c.submitted_at) > NOW),
        tasks.c.polled_at.is_(None) | (tasks.c.polled_at <= BEFORE) | (tasks.c.polled_at > NOW),
        tasks.c.due_at > NOW,  # else it is polled anyway
        tasks.c.leased_until.is_(None) | (tasks.c.leased_until <= NOW),
    )
    .order_by(case((watched_tasks.c.polled_at.is_(None), 0), else_=1), watched_tasks.c.polled_at)
    .limit(LIMIT)
    .with_for_update(of=(tasks, watched_tasks), skip_locked=True)
)
_UNFINISHED = first_value(
    tasks.c.id,
    tasks.c.id == watched_tasks.c.task_id,
    one_of(unindexed(tasks.c.status), frozenset({Status.QUEUED, Status.SUBMITTING, Status.IN_PROGRESS})),
)
UNWATCHED = (
    select(watched_tasks.c.task_id)
    .where((watched_tasks.c.until <= NOW) | _UNFINISHED.is_(None))
    .with_for_update(of=watched_tasks, skip_locked=True)
)
"""A row that is renewed at this moment is skipped: only renewals wait for each other, in the order of the ids."""


class SqlWatchedTasks:
    """Implements `WatchedTasks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def watch(self, ids: Collection[TaskId], *, until: datetime) -> None:
        """Watch these tasks until that time, or longer if that is stored."""
        async with self._database.writing() as write:
            await add_watched(write.connection, dict.fromkeys(ids, until))
            write.topics.add("watch")

    async def claim(self, *, now: datetime, until: datetime, limit: int, every: timedelta) -> list[Task]:
        """Lease watched tasks in progress that were not polled for `every`, the longest ago first."""
        async with self._database.reading() as connection:
            if (await connection.execute(WATCHED, {"now": now})).first() is None:
                return []
        async with self._database.writing() as write:
            given = {"now": now, "before": now - every, "limit": limit}
            chosen = [TaskId(each) for each in (await write.connection.execute(CLAIMED, given)).scalars()]
            if not chosen:
                return []
            polled = update(watched_tasks).where(in_list(watched_tasks.c.task_id, "ids")).values(polled_at=now)
            await write.connection.execute(polled, {"ids": chosen})
            return await lease_rows(write.connection, chosen, until)

    async def prune(self, *, now: datetime) -> int:
        """Delete the rows of tasks that nobody watches any more, or that have ended; return how many."""
        statement = delete(watched_tasks).where(in_found(watched_tasks.c.task_id, UNWATCHED))
        async with self._database.writing() as write:
            return (await write.connection.execute(statement, {"now": now})).rowcount


async def add_watched(connection: AsyncConnection, until: dict[TaskId, datetime]) -> None:
    """Watch each task until its time, or longer if that is stored."""
    statement = insert(connection, watched_tasks)
    new = statement.excluded.until
    later = case((new > watched_tasks.c.until, new), else_=watched_tasks.c.until)
    upsert = statement.on_conflict_do_update(index_elements=["task_id"], set_={"until": later})
    await connection.execute(upsert, [{"task_id": each, "until": until[each]} for each in sorted(until)])
