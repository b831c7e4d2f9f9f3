"""The filters of lists of tasks as conditions, and the index in which a list is read.

Tasks that are not completed are in small partial indexes, so that a list of failed ones does not read all tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, literal_column, select, true

from service.domain.ports.tasks import TaskFilter
from service.domain.task import AT_UPSTREAM, Status
from service.storage.tables import IN_FLIGHT, QUEUED, UNSUCCESSFUL, WITHOUT_RESULT, coalesced, tasks, unindexed

NEWEST = (tasks.c.created_at.desc(), tasks.c.id.desc())


@dataclass(frozen=True, kw_only=True, eq=False)
class ListIndex:
    """An index with the tasks of `statuses`: all tasks of the condition `where`, or (None) those of the whole list.

    With `has_client` there is another one that begins with the client. `has_status` is whether the index has it.
    """

    statuses: frozenset[Status]
    where: ColumnElement[bool] | None = None
    has_client: bool = True
    has_status: bool = True

    def entries(self, query: Select[Any], wanted: TaskFilter) -> Select[Any]:
        """Return `query` for the range of the index that the client and the times of the filter name."""
        if self.where is not None:
            query = query.where(self.where)
        if wanted.client is not None and self.has_client:
            query = query.where(tasks.c.client == wanted.client)
        if wanted.since is not None:
            query = query.where(tasks.c.created_at >= wanted.since)
        return query if wanted.until is None else query.where(tasks.c.created_at < wanted.until)

    def counted(self, wanted: TaskFilter, window: int) -> Select[Any]:
        """Return the query of the statuses in the newest `window` entries: how many there are, and how many pass."""
        names = ["status", *(["model"] if wanted.model else []), *([] if self.has_client else ["client"])]
        columns = [tasks.c[name] for name in names]
        if not self.has_status:
            columns.append(tasks.c.deadline_at)  # else SQLite takes an index of all tasks, which has the status
        if wanted.without_result:
            columns.append(tasks.c.erased_at)
        newest = self.entries(select(*columns), wanted).order_by(*NEWEST).limit(window).subquery()
        wanted_values = {name: getattr(wanted, name) for name in names if name != "status"}
        passed = [newest.c[name] == value for name, value in wanted_values.items() if value is not None]
        if wanted.without_result:
            passed.append(newest.c.erased_at.is_(None))
        total = func.sum(case((and_(true(), *passed), 1), else_=0))
        return select(newest.c.status, func.count(), total).group_by(newest.c.status)


COMPLETED = ListIndex(statuses=frozenset({Status.COMPLETED}))
SMALL = (
    ListIndex(statuses=frozenset({Status.QUEUED}), where=QUEUED, has_status=False),
    ListIndex(statuses=AT_UPSTREAM, where=IN_FLIGHT, has_client=False),
    ListIndex(statuses=frozenset({Status.CANCELED, Status.EXPIRED, Status.FAILED}), where=UNSUCCESSFUL),
)
NO_RESULT = ListIndex(statuses=frozenset({Status.COMPLETED}), where=WITHOUT_RESULT)

WHOLE_LIST = COMPLETED
"""Completed tasks are counted in the list of all tasks: they have no index of their own, since most tasks are."""


def index_of(wanted: TaskFilter) -> ListIndex:
    """Return the smallest index with all tasks of the filter."""
    if wanted.without_result:
        return NO_RESULT
    statuses = wanted.statuses or ({wanted.status} if wanted.status else set())
    return next((each for each in SMALL if statuses and statuses <= each.statuses), WHOLE_LIST)


def indexes_of(wanted: TaskFilter) -> Sequence[ListIndex]:
    """Return the indexes by which the tasks of the filter are counted, each status by one of them."""
    if wanted.without_result:
        return [NO_RESULT]
    return [each for each in (*SMALL, COMPLETED) if not wanted.statuses or wanted.statuses & each.statuses]


def passing(query: Select[Any], wanted: TaskFilter) -> Select[Any]:
    """Return `query` for the tasks that pass the filter, which other conditions look up.

    The filter is written as expressions: SQLite would look up all tasks of a client rather than those with some ids.
    """
    if wanted.client is not None:
        query = query.where(unindexed(tasks.c.client) == wanted.client)
    if wanted.since is not None:
        query = query.where(coalesced(tasks.c.created_at) >= wanted.since)
    if wanted.until is not None:
        query = query.where(coalesced(tasks.c.created_at) < wanted.until)
    return _checked(query, wanted)


def filtered(query: Select[Any], wanted: TaskFilter, index: ListIndex) -> Select[Any]:
    """Return `query` for the tasks in an index that pass the filter."""
    query = index.entries(query, wanted)
    if wanted.client is not None and not index.has_client:
        query = query.where(unindexed(tasks.c.client) == wanted.client)
    return _checked(query, wanted)


def _checked(query: Select[Any], wanted: TaskFilter) -> Select[Any]:
    for name in ("status", "model"):
        value = getattr(wanted, name)
        query = query if value is None else query.where(unindexed(tasks.c[name]) == value)
    if wanted.statuses:
        query = query.where(unindexed(tasks.c.status).in_(sorted(wanted.statuses)))
    if not wanted.without_result:
        return query
    empty = unindexed(tasks.c.output) == literal_column("'[]'")
    return query.where(unindexed(tasks.c.status) == Status.COMPLETED.value, empty, tasks.c.erased_at.is_(None))
