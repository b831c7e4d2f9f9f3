"""Tasks that a search reads itself, since they have no words yet: a job adds those after the first event of a task.

These are queued tasks, tasks that are being submitted, and those whose first event the job has not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, select, tuple_

from service.domain.ports.tasks import TaskFilter
from service.domain.task import Status, Task
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import in_list
from service.storage.lookups import first_value
from service.storage.search_index import FIRST_NUMBERS, PROGRESS
from service.storage.tables import SUBMITTING, coalesced, events, tasks, unindexed
from service.storage.task_filters import NEWEST, SMALL, filtered, passing
from service.storage.task_rows import columns_without, rows_to_tasks

MAX_READ = 200
"""The newest queued tasks, the tasks that are being submitted, and the newest unread events: as many of each."""

SEARCHED = frozenset({"notify", "hinted_fact"})
"""Fields that a search does not need."""

COLUMNS = columns_without(SEARCHED)
QUEUED_TASKS = SMALL[0]
WITHOUT_EVENT = first_value(events.c.task_id, events.c.task_id == tasks.c.id).is_(None)
PLACE = (tasks.c.created_at, tasks.c.id)
PLACE_IN_NO_INDEX = (coalesced(tasks.c.created_at), unindexed(tasks.c.id))


@dataclass(frozen=True, kw_only=True)
class WithoutWords:
    """The tasks that match, in the order of the search; of the statuses in `more` there may be more.

    The first ones, `without_event` in number, have no event yet.
    """

    tasks: Sequence[Task]
    without_event: int
    more: frozenset[str]


async def read_without_words(connection: AsyncConnection, wanted: TaskFilter, before: int | None) -> WithoutWords:
    """Return the tasks without words that match, after the cursor: its first event has the number `before`.

    Without `before` all are returned that have an event. Those without one are first, the newest one first; the others
    are in the order of their first events. A filter by handler finds none. They are read in the order in which a task
    passes through them, so that none is missed.
    """
    if wanted.terms.handler is not None:
        return WithoutWords(tasks=[], without_event=0, more=frozenset())
    found: list[Task] = []
    more: set[str] = set()
    if before is None:
        for status, query in ((Status.QUEUED, _queued(wanted)), (Status.SUBMITTING, _submitting(wanted))):
            if not wanted.statuses or status in wanted.statuses:
                rows = (await connection.execute(query.limit(MAX_READ))).all()
                found += _matching(rows, wanted)
                more |= {status.value} if len(rows) == MAX_READ else set()
        found.sort(key=lambda task: (task.created_at, task.id), reverse=True)
    unread, all_read = await _with_unread_event(connection, wanted, before)
    unique = {task.id: task for task in (*found, *unread)}
    more = more if all_read else {*Status}
    return WithoutWords(tasks=[*unique.values()], without_event=len(found), more=frozenset(more))


def _queued(wanted: TaskFilter) -> Select[Any]:
    """Return the query of queued tasks without an event; one that is submitted again has some."""
    return _after_cursor(filtered(select(*COLUMNS), wanted, QUEUED_TASKS), wanted, PLACE).order_by(*NEWEST)


def _submitting(wanted: TaskFilter) -> Select[Any]:
    """Return the query of tasks that are being submitted for the first time: at most UPSTREAM_CONCURRENCY a process.

    It has no order and no column of another index, since SQLite would read that one.
    """
    return _after_cursor(passing(select(*COLUMNS), wanted).where(SUBMITTING), wanted, PLACE_IN_NO_INDEX)


def _after_cursor(query: Select[Any], wanted: TaskFilter, place: Sequence[ColumnElement[Any]]) -> Select[Any]:
    query = query.where(WITHOUT_EVENT)
    if wanted.cursor is None:
        return query
    return query.where(tuple_(*place) < select(*PLACE).where(tasks.c.id == wanted.cursor).scalar_subquery())


def _matching(rows: Sequence[Row[Any]], wanted: TaskFilter) -> list[Task]:
    return [task for task in rows_to_tasks(rows, SEARCHED) if wanted.terms.matches(task.params, task.metadata)]


async def _with_unread_event(
    connection: AsyncConnection, wanted: TaskFilter, before: int | None
) -> tuple[list[Task], bool]:
    """Return the tasks that match and whose first event is an unread one, the newest first; and whether those are all.

    There are more than MAX_READ unread events only in a burst, and after an update of an older release.
    """
    last_read = (await connection.execute(PROGRESS)).scalar() or 0
    query = select(events.c.task_id).where(events.c.seq > last_read)
    if before is not None:
        query = query.where(events.c.seq < before)
    unread = (await connection.scalars(query.order_by(events.c.seq.desc()).limit(MAX_READ))).all()
    if not unread:
        return [], True
    first = (await connection.execute(FIRST_NUMBERS, {"ids": list(dict.fromkeys(unread))})).all()
    numbers = {task_id: seq for task_id, seq in first if seq > last_read and (before is None or seq < before)}
    chosen = passing(select(*COLUMNS), wanted).where(in_list(tasks.c.id, "ids"))
    rows = (await connection.execute(chosen, {"ids": list(numbers)})).all()
    found = sorted(_matching(rows, wanted), key=lambda task: numbers[task.id], reverse=True)
    return found, len(unread) < MAX_READ
