"""Costs of the submissions of a day, by model and client."""

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import case, func, select

from service.domain.task import Status
from service.domain.usage import UsageRow
from service.storage.daily_budget import COSTS_NOTHING
from service.storage.database import Database
from service.storage.tables import CLIENT_IN_GROUPS, IS_COMPLETED, one_of, tasks

ENDED_WITHOUT_RESULT = one_of(
    tasks.c.status, frozenset({Status.FAILED, Status.CANCELED, Status.EXPIRED, Status.IN_DOUBT})
) | IS_COMPLETED & (tasks.c.output == [])
WITHOUT_RESULT = (tasks.c.cost > 0) & tasks.c.erased_at.is_(None) & ENDED_WITHOUT_RESULT
"""Paid for, and no result: an erased task may have had one."""

UNPRICED = tasks.c.cost.is_(None) & ~COSTS_NOTHING
COST = func.coalesce(tasks.c.cost, 0.0)
CLIENT = CLIENT_IN_GROUPS.label("of_client")
OF_DAY = select(
    tasks.c.model,
    CLIENT,
    func.count().label("tasks"),
    func.sum(COST).label("cost"),
    func.sum(case((UNPRICED, 1), else_=0)).label("unpriced"),
    func.sum(case((WITHOUT_RESULT, 1), else_=0)).label("without_result"),
    func.sum(case((WITHOUT_RESULT, COST), else_=0.0)).label("without_result_cost"),
).group_by(tasks.c.model, CLIENT)


class SqlUsageReports:
    """Implements `UsageReports`: one day is a range of the index `tasks_submitted`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_day(self, day: date, *, client: str | None) -> list[UsageRow]:
        """Return the rows of one UTC day, of one client or (None) of all, ordered by model and client."""
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        query = OF_DAY.where(tasks.c.submitted_at >= begin, tasks.c.submitted_at < begin + timedelta(days=1))
        if client is not None:
            query = query.where(CLIENT_IN_GROUPS.in_([client]))  # no column: the index of times is the one to use
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            found = [
                UsageRow(
                    day=day,
                    model=row.model,
                    client=row.of_client,
                    tasks=int(row.tasks),
                    cost=float(row.cost),
                    unpriced=int(row.unpriced),
                    without_result=int(row.without_result),
                    without_result_cost=float(row.without_result_cost),
                )
                for row in rows
            ]
        return sorted(found, key=lambda row: (row.model, row.client))
