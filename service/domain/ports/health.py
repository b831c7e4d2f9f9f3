"""What the service can tell about itself, what it learns, and what it forgets."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from service.domain.poll_schedule import CallbackStats
from service.domain.ports.unit_of_work import RunTime


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """A reading for /metrics: counts by status and outcome, and the ages (seconds) of what waits longest."""

    tasks: Mapping[str, int]
    deliveries: Mapping[str, int]
    attempts: Mapping[tuple[str, str], int]
    callbacks: Mapping[str, int]
    oldest_unsettled: timedelta
    oldest_due: timedelta
    in_doubt: int


class Health(Protocol):
    """The database's own word on its state."""

    async def ready(self) -> str | None:
        """Return None when the database answers and its schema fits, else what to do about it."""

    async def gauges(self, now: datetime) -> Gauges:
        """Return the current reading."""


class Memory(Protocol):
    """What was learned, and what is to be forgotten."""

    async def run_times(self, *, per_bucket: int) -> list[RunTime]:
        """Return the newest run times of each bucket."""

    async def callback_stats(self, *, newest: int) -> CallbackStats:
        """Return of how many of the newest tasks with a run time no callback told the end."""

    async def prune(self, *, before: datetime) -> int:
        """Forget raw callbacks, attempts, inputs and run times of settled tasks older than `before`; how many rows."""
