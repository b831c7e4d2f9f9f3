"""Looks for conditions that an operator should know of and that no single transaction shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.domain.operator_event import OperatorEventType, budget_share, hour_of
from service.domain.ports.health import RunTimeStats
from service.domain.ports.operator_events import OperatorEvents
from service.domain.ports.signals import Clock
from service.domain.submission_limits import Limits
from service.domain.task import Json

NEWEST = 20
"""The newest ended tasks whose callbacks are looked at; half of them must have been lost."""

QUERIES = ("fetch", "find")
"""Requests to the provider that it refuses only because of the key."""


class Spending(Protocol):
    """Knows what is spent."""

    async def spent_today(self, now: datetime, *, budget_each: float) -> Mapping[str, float]:
        """Return the US dollars of this UTC day by client."""


@dataclass(kw_only=True, slots=True)
class OperatorWatch:
    """Reports lost callbacks, budgets that are reached, and a key that the provider rejects.

    `requests` counts those of this process to the provider by kind and outcome; `callbacks` is whether there should be
    callbacks at all.
    """

    events: OperatorEvents
    spending: Spending
    stats: RunTimeStats
    requests: Callable[[], Mapping[tuple[str, str], int]]
    clock: Clock
    limits: Limits
    callbacks: bool
    _refused: int = field(default=0, init=False)

    async def check(self) -> int:
        """Report what is to be reported; return how many events are new. Raises StoreUnavailable."""
        return await self._check_key() + await self._check_budgets() + await self._check_callbacks()

    async def _report(self, type_: OperatorEventType, condition: str, data: Json) -> int:
        return int(await self.events.report(type_, condition, data, at=self.clock.now()))

    async def _check_key(self) -> int:
        refused = sum(self.requests().get((kind, "refused"), 0) for kind in QUERIES)
        before, self._refused = self._refused, refused
        if refused <= before:
            return 0
        condition = hour_of(self.clock.now())  # once an hour for as long as it lasts
        return await self._report(OperatorEventType.UPSTREAM_REJECTS_KEY, condition, {"refusals": refused - before})

    async def _check_budgets(self) -> int:
        if not self.limits.counts_dollars:
            return 0
        now = self.clock.now()
        spent = await self.spending.spent_today(now, budget_each=self.limits.budget_each)
        budgets: list[tuple[str | None, float, float | None]] = [(None, sum(spent.values()), self.limits.budget)]
        budgets += [(client, dollars, self.limits.client_budget.of(client)) for client, dollars in spent.items()]
        new = 0
        for client, dollars, budget in budgets:
            percent = budget_share(dollars, budget) if budget is not None else None
            for reached in (80, 100):
                if percent is not None and percent >= reached:
                    data = {"client": client, "percent": reached, "spent": round(dollars, 4), "budget": budget}
                    condition = f"{now:%Y-%m-%d} {reached} {client or ''}"  # once a day
                    new += await self._report(OperatorEventType.BUDGET_REACHED, condition, data)
        return new

    async def _check_callbacks(self) -> int:
        if not self.callbacks:
            return 0
        stats = await self.stats.callback_stats(newest=NEWEST)
        if stats.count < NEWEST or stats.lost * 2 < stats.count:
            return 0
        data = {"tasks": stats.count, "lost": stats.lost}
        condition = f"{self.clock.now():%Y-%m-%d}"  # once a day for as long as it lasts
        return await self._report(OperatorEventType.CALLBACKS_LOST, condition, data)
