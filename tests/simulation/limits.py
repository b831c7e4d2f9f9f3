"""The operator's limits, checked after each commit: nothing is submitted beyond them."""

import sqlite3
from collections.abc import Callable

from service.domain.submission_limits import RATE_PERIOD
from service.runtime.config.settings import Settings
from tests.simulation.history import History

PRICE = 0.35
"""US dollars that the sandbox bills for each task of a run."""

DAY = 24 * 3600 * 1_000_000
"""Microseconds of a day, the unit of the stored times."""

STATE = """
SELECT coalesce(sum(submission), 0),
 coalesce(sum(status IN ('submitting', 'in_progress', 'in_doubt')), 0),
 max(submitted_at)
FROM tasks
"""
BILLED = """
SELECT coalesce(sum((status != 'queued' AND NOT (status IN ('failed', 'canceled') AND NOT guessed)) + resubmissions), 0)
FROM tasks WHERE submitted_at >= ?
"""
RECENT = "SELECT count(*) FROM tasks WHERE submitted_at > ? AND status != 'queued'"


class Limits:
    """Reports a submission that began although a limit was reached.

    All tasks belong to one client, so that its limits are checked like those of all clients. What may be billed comes
    from the statuses and the sandbox's price, and not from the costs that the service has stored. With `true_clocks`
    all times are from one clock, and the submissions of a day and of a minute are counted too. With `true_costs` no
    wrong cost is accepted unconfirmed, and the budgets are checked too.
    """

    def __init__(
        self,
        reader: sqlite3.Connection,
        settings: Settings,
        history: History,
        *,
        true_clocks: bool,
        true_costs: bool,
        client: str,
    ) -> None:
        self._reader = reader
        self._history = history
        self._in_flight: dict[str, float | None] = {"MAX_IN_FLIGHT": settings.max_in_flight}
        self._budgets: dict[str, float | None] = {"BUDGET": None if settings.budget is None else float(settings.budget)}
        self._rate: float | None = None
        if settings.client_max_in_flight:
            self._in_flight["CLIENT_MAX_IN_FLIGHT"] = settings.client_max_in_flight.of(client)
        if settings.client_budget:
            self._budgets["CLIENT_BUDGET"] = settings.client_budget.of(client)
        if settings.client_rate:
            self._rate = settings.client_rate.of(client)
        self._true_clocks = true_clocks
        self._true_costs = true_costs
        self._submissions = 0

    def check(self) -> None:
        """Check the tasks after a commit in which a submission began."""
        if not any(limit is not None for limit in (*self._in_flight.values(), *self._budgets.values(), self._rate)):
            return
        submissions, in_flight, newest = self._reader.execute(STATE).fetchone()
        begun, self._submissions = submissions > self._submissions, submissions
        if not begun:
            return
        self._compare("tasks in flight", lambda: in_flight, self._in_flight)
        if self._true_clocks and self._true_costs:
            self._compare("dollars may be billed today", lambda: self._billed(newest), self._budgets)
        if self._true_clocks:
            self._compare("submissions in a minute", lambda: self._recent(newest), {"CLIENT_RATE": self._rate})

    def _billed(self, now: int) -> float:
        return PRICE * float(self._reader.execute(BILLED, (now - now % DAY,)).fetchone()[0])

    def _recent(self, now: int) -> int:
        since = now - int(RATE_PERIOD.total_seconds() * 1_000_000)
        return int(self._reader.execute(RECENT, (since,)).fetchone()[0])

    def _compare(self, what: str, count: Callable[[], float], limits: dict[str, float | None]) -> None:
        for name, limit in limits.items():
            if limit is not None and (found := count()) > limit:
                self._history.add_violation(f"limits: {found} {what}, {name} is {limit}")
