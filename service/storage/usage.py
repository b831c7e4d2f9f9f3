"""Costs of the submissions of a day, by model and client."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, bindparam, case, func, select

from service.domain.task import Status
from service.domain.usage import UsageRow
from service.storage.column_types import UtcDateTime
from service.storage.database import Database
from service.storage.row_counts import parts
from service.storage.tables import CLIENT_IN_GROUPS, WITHOUT_RESULT, coalesced, one_of, tasks, unindexed

FAILED = frozenset({Status.FAILED, Status.CANCELED, Status.EXPIRED, Status.IN_DOUBT})
FREE = frozenset({Status.QUEUED})
FREE_UNLESS_GUESSED = frozenset({Status.FAILED, Status.CANCELED})
"""A submission of unknown cost costs nothing in these statuses; see `daily_budget.COSTS_NOTHING`."""

BEGIN, END = bindparam("begins", type_=UtcDateTime()), bindparam("ends", type_=UtcDateTime())
OF_DAY = (tasks.c.submitted_at >= BEGIN) & (tasks.c.submitted_at < END)
MODEL, CLIENT = unindexed(tasks.c.model).label("of_model"), CLIENT_IN_GROUPS.label("of_client")
SUM = func.sum(func.coalesce(tasks.c.cost, 0.0)).label("cost")
UNKNOWN_COST, NO_COST, SOME_COST = 0, 1, 2
COST_KIND = case((tasks.c.cost > 0, SOME_COST), (tasks.c.cost.is_not(None), NO_COST), else_=UNKNOWN_COST).label(
    "cost_kind"
)
STATUS = unindexed(tasks.c.status).label("of_status")

SUBMISSIONS = (
    select(MODEL, CLIENT, STATUS, COST_KIND, func.count().label("tasks"), SUM)
    .where(OF_DAY)
    .group_by(MODEL, CLIENT, STATUS, COST_KIND)
)
"""An index has all that the sums of a day need."""

COUNTED = select(MODEL, CLIENT, func.count().label("tasks"), SUM).group_by(MODEL, CLIENT)
GUESSED = COUNTED.where(OF_DAY, tasks.c.cost.is_(None), one_of(tasks.c.status, FREE_UNLESS_GUESSED), tasks.c.guessed)
ERASED = COUNTED.where(OF_DAY, tasks.c.cost > 0, one_of(tasks.c.status, FAILED), tasks.c.erased_at.is_not(None))
"""An erased task may have had a result."""

WITHOUT_OUTPUT = COUNTED.where(
    WITHOUT_RESULT,
    tasks.c.created_at < END,
    tasks.c.erased_at.is_(None),
    tasks.c.cost > 0,
    coalesced(tasks.c.submitted_at) >= BEGIN,
    coalesced(tasks.c.submitted_at) < END,
)
"""Completed tasks without output are few, in an index of their own; none is submitted before it is created."""


class SqlUsageReports:
    """Implements `UsageReports`: one day is a range of the index `tasks_submissions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def first_day(self, begin: date, last: date) -> date | None:
        """Return the first UTC day from `begin` to `last` with a submission of any client, or None.

        One entry of the index is read. None of its columns finds the next submission of one client.
        """
        first = select(tasks.c.submitted_at).where(tasks.c.submitted_at >= _midnight(begin))
        async with self._database.reading() as connection:
            at: datetime | None = await connection.scalar(first.order_by(tasks.c.submitted_at).limit(1))
        return at.date() if at is not None and at.date() <= last else None

    async def of_day(self, day: date, *, client: str | None) -> list[UsageRow]:
        """Return the rows of one UTC day, of one client or (None) of all, ordered by model and client."""
        begin = _midnight(day)
        times = {"begins": begin, "ends": begin + timedelta(days=1)}
        sums: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)
        async with self._database.reading() as connection:

            async def read(query: Select[Any]) -> Sequence[Row[Any]]:
                if client is not None:  # no column: the index of times is the one to use
                    query = query.where(CLIENT_IN_GROUPS.in_([client]))
                found: Sequence[Row[Any]] = (await connection.execute(query, times)).all()
                return found

            async for part in parts(connection, tasks.c.submitted_at, OF_DAY, times):
                for row in await read(SUBMISSIONS.where(part)):
                    sums[row.of_model, row.of_client].add(row.of_status, row.cost_kind, int(row.tasks), float(row.cost))
            for row in await read(GUESSED) if any(each.maybe_guessed for each in sums.values()) else ():
                sums[row.of_model, row.of_client].unpriced += int(row.tasks)
            for row in await read(ERASED) if any(each.without_result for each in sums.values()) else ():
                sums[row.of_model, row.of_client].add_without_result(-int(row.tasks), -float(row.cost))
            for row in await read(WITHOUT_OUTPUT):
                sums[row.of_model, row.of_client].add_without_result(int(row.tasks), float(row.cost))
        return [each.row(day, *names) for names, each in sorted(sums.items())]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@dataclass(kw_only=True)
class _Sums:
    """The sums of a model and client; `maybe_guessed` counts tasks that are unpriced if their end was guessed."""

    tasks: int = 0
    cost: float = 0.0
    unpriced: int = 0
    without_result: int = 0
    without_result_cost: float = 0.0
    maybe_guessed: int = 0

    def add(self, status: str, cost_kind: int, tasks: int, cost: float) -> None:
        """Add tasks of a status; `cost_kind` is UNKNOWN_COST, NO_COST or SOME_COST."""
        self.tasks += tasks
        self.cost += cost
        if cost_kind == UNKNOWN_COST and status in FREE_UNLESS_GUESSED:
            self.maybe_guessed += tasks
        elif cost_kind == UNKNOWN_COST and status not in FREE:
            self.unpriced += tasks
        if cost_kind == SOME_COST and status in FAILED:
            self.add_without_result(tasks, cost)

    def add_without_result(self, tasks: int, cost: float) -> None:
        """Add tasks that were paid and have no result."""
        self.without_result += tasks
        self.without_result_cost += cost

    def row(self, day: date, model: str, client: str) -> UsageRow:
        """Return the row of the report."""
        return UsageRow(
            day=day,
            model=model,
            client=client,
            tasks=self.tasks,
            cost=self.cost,
            unpriced=self.unpriced,
            without_result=self.without_result,
            without_result_cost=self.without_result_cost if self.without_result else 0.0,
        )
