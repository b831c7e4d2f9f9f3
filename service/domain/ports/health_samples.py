"""Samples from which the health of the service over time is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

SAMPLE = 100
"""Newest rows that are read of each time: however many there are, a page reads the same number."""


@dataclass(frozen=True, kw_only=True)
class TaskSample:
    """A task, with the last callback up to its end and the first one after it. `point` is the number of its time."""

    point: int
    status: str
    settled_by: str | None
    polls: int
    created_at: datetime
    settled_at: datetime | None
    called_back_at: datetime | None
    late_callback_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class DeliverySample:
    """A delivery; `finished_at` is None while it waits."""

    point: int
    status: str
    created_at: datetime
    finished_at: datetime | None


class HealthSamples(Protocol):
    """Reads samples; `times` are the borders of the points, one more than there are points."""

    async def tasks(self, times: Sequence[datetime], *, client: str | None) -> list[TaskSample]:
        """Return the newest SAMPLE tasks that were created in each point, of one client or (None) of all."""

    async def deliveries(self, times: Sequence[datetime], *, client: str | None) -> list[DeliverySample]:
        """Return the newest SAMPLE deliveries of events of each point."""

    async def spend(self, days: Sequence[date], now: datetime, *, client: str | None) -> dict[date, float]:
        """Return the reported cost in US dollars of the submissions of each UTC day; past days may be an hour old.

        Days for which there is no time now are left out; a later call reads them.
        """
