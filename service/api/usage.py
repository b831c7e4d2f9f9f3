"""The endpoint `/v1/usage`: what tasks cost, by day, model and client."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import caller_of
from service.api.endpoints import json_response, route
from service.api.pages import PageTurns
from service.api.query_params import QueryParams, cursor_of
from service.domain.errors import Fault, InvalidParams
from service.domain.ports.signals import Clock
from service.domain.ports.usage import UsageReports
from service.domain.task import Json
from service.domain.usage import UsageRow, dollars

DAY = timedelta(days=1)
DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_ROWS = 2000
"""Rows after which a report ends with the day, and continues with `next_cursor`."""


@dataclass(kw_only=True, slots=True)
class UsageApi:
    """The endpoint `/v1/usage`.

    Each day with submissions is read by itself, with a pause, so that no report holds up other requests.
    """

    reports: UsageReports
    clock: Clock
    turns: PageTurns

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/usage", get=self.show)]

    async def show(self, request: Request) -> Response:
        """Show the costs of the caller's tasks, of all clients for an admin, by the UTC day of their submission."""
        query = QueryParams(request, "from", "to", "cursor")
        today = self.clock.now().date()
        given_from, given_to = query.date("from"), query.date("to")
        cursor = query.cursor("usage")
        query.reject_errors()
        last = given_to or max(today, given_from or today)
        first = given_from or last - timedelta(days=min(DEFAULT_DAYS - 1, (last - date.min).days))
        _check_span(first, last)
        begin = _day_of(cursor, first, last) if cursor else first
        caller = caller_of(request)
        rows: list[UsageRow] = []
        async with self.turns.turn(caller.name) as pause:
            next_day = await self.reports.first_day(begin, last)
            while next_day is not None and len(rows) < MAX_ROWS:
                rows += await self.reports.of_day(next_day, client=caller.scope)
                await pause(0)
                next_day = await self.reports.first_day(next_day + DAY, last) if next_day < last else None
        return json_response(_report(first, last, rows, next_day))


def _check_span(first: date, last: date) -> None:
    if first > last:
        raise InvalidParams([Fault(loc=("query", "from"), msg="must not be after to")])
    if (last - first).days >= MAX_DAYS:
        raise InvalidParams([Fault(loc=("query", "from"), msg=f"must be within {MAX_DAYS} days up to to")])


def _day_of(cursor: str, first: date, last: date) -> date:
    try:
        day = date.fromisoformat(cursor)
    except ValueError:
        day = date.min
    if first <= day <= last:
        return day
    msg = "is not a next_cursor of this report: start without it"
    raise InvalidParams([Fault(loc=("query", "cursor"), msg=msg)])


def _report(first: date, last: date, rows: Sequence[UsageRow], next_day: date | None) -> Json:
    data = [{"day": row.day.isoformat(), "model": row.model, "client": row.client, **_sums([row])} for row in rows]
    return {
        "from": first.isoformat(),
        "to": last.isoformat(),
        "data": data,
        "total": _sums(rows),
        "next_cursor": next_day and cursor_of("usage", next_day.isoformat()),
    }


def _sums(rows: Sequence[UsageRow]) -> Json:
    return {
        "tasks": sum(row.tasks for row in rows),
        "cost": dollars(sum(row.cost for row in rows)),
        "unpriced": sum(row.unpriced for row in rows),
        "without_result": sum(row.without_result for row in rows),
        "without_result_cost": dollars(sum(row.without_result_cost for row in rows)),
    }
