"""Health and metrics of the service, statistics of run times, and retention."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from service.domain.poll_schedule import CallbackStats
from service.domain.ports.unit_of_work import RunTime
from service.domain.prices import DEFAULT_EACH


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """The figures for /metrics: counts by status and outcome, and the ages of the oldest unfinished and due rows.

    `status_words` is how long the provider has reported each status word of unknown meaning.
    `day_costs` are the reported costs of the UTC day's submissions by client, in US dollars, and `spent` what counts
    for the budgets: costs and prices of tasks whose cost is not known. `dead_letters` counts by handler, `dead_faults`
    by the responsible party, `endpoints` and `circuits` by state. Counts of many rows may be some minutes old.
    """

    tasks: Mapping[str, int]
    deliveries: Mapping[str, int]
    attempts: Mapping[tuple[str, str], int]
    callbacks: Mapping[str, int]
    oldest_unsettled: timedelta
    oldest_due: timedelta
    in_doubt: int
    status_words: Mapping[str, timedelta] = field(default_factory=dict)
    day_costs: Mapping[str, float] = field(default_factory=dict)
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    dead_faults: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    endpoints: Mapping[str, int] = field(default_factory=dict)
    circuits: Mapping[str, int] = field(default_factory=dict)


class Health(Protocol):
    """The state of the database."""

    async def ready(self) -> str | None:
        """Return None if the database answers and its schema is current, else the reason with the fix."""

    async def gauges(self, now: datetime, *, each: float = DEFAULT_EACH) -> Gauges:
        """Return the current figures; `each` is what a task of unknown price counts as, in US dollars."""


class RunTimeStats(Protocol):
    """Statistics about tasks that have ended, from which polls are scheduled."""

    async def run_times(self, *, per_bucket: int) -> list[RunTime]:
        """Return the newest `per_bucket` run times of each bucket, oldest first."""

    async def callback_stats(self, *, newest: int) -> CallbackStats:
        """Count the `newest` tasks with a run time, and those of them whose end no callback reported."""


class Retention(Protocol):
    """Deletion of rows that are older than the retention period."""

    async def prune(self, *, before: datetime) -> int:
        """Delete callbacks, polls, attempts, inputs and run times of tasks that ended before `before`.

        Returns the number of deleted rows.
        """
