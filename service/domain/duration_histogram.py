"""Counts of durations by size, from which quantiles are estimated. Only computes."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

WAITS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0)
"""Upper bounds for times of tasks, in seconds."""

DELIVERIES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0)
"""Upper bounds for times of deliveries, in seconds."""

Histograms = Mapping[str, Mapping[str, "DurationHistogram"]]
"""Histograms of a process by name, and then by the value of the label; the empty text for one without a label."""


@dataclass(kw_only=True)
class DurationHistogram:
    """The number of durations up to each of the upper `bounds`, in seconds, and their sum.

    `counts` has one number for each bound and one for longer durations.
    """

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    total: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, duration: timedelta) -> None:
        """Count a duration; a negative one, after a clock that moved backwards, counts as zero."""
        seconds = max(0.0, duration.total_seconds())
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


def deliveries_by_handler() -> dict[str, DurationHistogram]:
    """Return the histograms of deliveries by the name of their handler, each made when it is used."""
    return defaultdict(lambda: DurationHistogram(bounds=DELIVERIES))
