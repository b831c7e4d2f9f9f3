"""The page about health: callbacks and polls, times, and spend, over a time."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import QueryParams
from service.dashboard.health_plots import health_plots
from service.dashboard.layout import Layout, Page
from service.domain.errors import Fault, InvalidParams
from service.domain.health_figures import DeliveryFigures, TaskFigures, delivery_figures, task_figures
from service.domain.ports.health import Gauges
from service.domain.ports.health_samples import SAMPLE, HealthSamples
from service.domain.submission_limits import Limits
from service.domain.task import Json
from service.domain.task_view import rfc3339

GAUGE_SECONDS = 2.0
"""Time that the page waits for the gauges: the first count of many rows takes longer, and goes on."""

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Range:
    """A time before now: its name for a person, the length of a point, and the number of points."""

    name: str
    step: timedelta
    points: int

    def times(self, now: datetime) -> list[datetime]:
        """Return the borders of the points; the last one is now, so that it is not cut."""
        return [now - self.step * left for left in range(self.points, -1, -1)]

    def days(self, now: datetime) -> list[date]:
        """Return the UTC days of the plot of spend: a week at least."""
        count = max(7, round(self.step * self.points / timedelta(days=1)))
        return [now.date() - timedelta(days=left) for left in range(count - 1, -1, -1)]


RANGES: Mapping[str, Range] = {
    "1h": Range(name="one hour", step=timedelta(minutes=2), points=30),
    "24h": Range(name="one day", step=timedelta(hours=1), points=24),
    "7d": Range(name="one week", step=timedelta(hours=6), points=28),
    "30d": Range(name="30 days", step=timedelta(days=1), points=30),
}


@dataclass(frozen=True, kw_only=True)
class HealthFigures:
    """Everything that the page shows: figures of the whole time, and of each of its points."""

    times: Sequence[datetime]
    tasks: TaskFigures
    deliveries: DeliveryFigures
    task_points: Sequence[TaskFigures]
    delivery_points: Sequence[DeliveryFigures]
    spend: Mapping[date, float | None]
    budget: float | None


@dataclass(frozen=True, kw_only=True)
class HealthPage:
    """The page at `/health`. `limits` has the budgets."""

    layout: Layout
    services: Services
    samples: HealthSamples
    limits: Limits

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [self.layout.route("/health", get=self.show)]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show the health over the time `range`, of all clients or one."""
        query = QueryParams(request, "range", "client", "format")
        name = query.choice("range", list(RANGES)) or "24h"
        client = query.text("client") if request.query_params.get("client") else None
        query.reject_errors()
        if client is not None and not caller.sees(client):
            raise InvalidParams([Fault(loc=("query", "client"), msg="only an admin may name another client")])
        now = self.layout.now()
        figures = await self._figures(RANGES[name], now, client or caller.scope)
        gauges = await self._gauges(now) if caller.sees_all else None
        suffix = f"&client={client}" if client else ""
        values: dict[str, Any] = {
            "ranges": [(key, each.name, f"/health?range={key}{suffix}") for key, each in RANGES.items()],
            "range": name,
            "range_name": RANGES[name].name,
            "client": client,
            "figures": figures,
            "plots": health_plots(figures, now),
            "gauges": gauges,
            "sample": SAMPLE,
            "poll_only": self.services.public_url is None,
        }
        return Page(template="health.html", title="Health", values=values, data=_data(name, client, figures, gauges))

    async def _figures(self, over: Range, now: datetime, client: str | None) -> HealthFigures:
        times = over.times(now)
        tasks = await self.samples.tasks(times, client=client)
        deliveries = await self.samples.deliveries(times, client=client)
        spend = await self.samples.spend(over.days(now), now, client=client)
        task_points, delivery_points = _by_point(tasks), _by_point(deliveries)
        return HealthFigures(
            times=times,
            tasks=task_figures(tasks, now),
            deliveries=delivery_figures(deliveries),
            task_points=[task_figures(task_points[point], now) for point in range(over.points)],
            delivery_points=[delivery_figures(delivery_points[point]) for point in range(over.points)],
            spend={day: spend.get(day) for day in over.days(now)},
            budget=self.limits.budget if client is None else self.limits.client_budget.of(client),
        )

    async def _gauges(self, now: datetime) -> Gauges | None:
        """Return the gauges, None while they are counted for the first time."""
        try:
            async with asyncio.timeout(GAUGE_SECONDS):
                return await self.services.health.gauges(now, each=self.services.budget_each)
        except TimeoutError:
            return None


def _by_point(samples: Sequence[S]) -> defaultdict[int, list[S]]:
    found: defaultdict[int, list[S]] = defaultdict(list)
    for each in samples:
        found[each.point].append(each)  # type: ignore[attr-defined]
    return found


def _data(name: str, client: str | None, figures: HealthFigures, gauges: Gauges | None) -> Json:
    points = zip(figures.times, figures.task_points, figures.delivery_points, strict=False)
    return {
        "range": name,
        "client": client,
        "sample_of_each_point": SAMPLE,
        "tasks": _task_object(figures.tasks),
        "deliveries": vars(figures.deliveries),
        "points": [
            {"since": rfc3339(since), "tasks": _task_object(task), "deliveries": vars(delivery)}
            for since, task, delivery in points
        ],
        "spend": [{"day": day.isoformat(), "dollars": cost} for day, cost in figures.spend.items()],
        "budget": figures.budget,
        "oldest_due_row_seconds": gauges.oldest_due.total_seconds() if gauges else None,
        "oldest_unsettled_task_seconds": gauges.oldest_unsettled.total_seconds() if gauges else None,
    }


def _task_object(found: TaskFigures) -> Json:
    return {**vars(found), "callbacks": {**vars(found.callbacks), "loss": found.callbacks.loss}}
