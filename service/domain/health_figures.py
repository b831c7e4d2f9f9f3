"""The health of the service over time, from samples of tasks and deliveries. Only computes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.domain.ports.health_samples import DeliverySample, TaskSample

LOST_AFTER = timedelta(minutes=10)
"""Time after the end of a task from which a callback that has not come counts as lost."""


@dataclass(frozen=True, kw_only=True)
class CallbackFigures:
    """How tasks ended: `first` by a callback, `late` by a poll before the callback, `lost` by a poll without one.

    `waiting` ended by a poll a short time ago: the callback may still come. `other` ended with the submission.
    """

    first: int = 0
    late: int = 0
    lost: int = 0
    waiting: int = 0
    other: int = 0

    @property
    def settled(self) -> int:
        """Return the number of tasks that a callback or a poll settled, without those that still wait for one."""
        return self.first + self.late + self.lost

    @property
    def loss(self) -> float | None:
        """Return the share of callbacks that did not come, None without a task."""
        return self.lost / self.settled if self.settled else None


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """Figures of sampled tasks: times in seconds, None without a task."""

    count: int
    callbacks: CallbackFigures
    polls: float | None
    delay: float | None
    delay_95: float | None
    settle: float | None
    settle_95: float | None


@dataclass(frozen=True, kw_only=True)
class DeliveryFigures:
    """Figures of sampled deliveries: seconds from an event to its successful delivery, and dead letters."""

    count: int
    dead: int
    waiting: int
    handover: float | None
    handover_95: float | None


def task_figures(samples: Sequence[TaskSample], now: datetime) -> TaskFigures:
    """Return the figures of tasks. The delay of callbacks is known of those that came after a poll."""
    settled = [each for each in samples if each.settled_at is not None and each.settled_by is not None]
    delays = [
        (each.late_callback_at - each.settled_at).total_seconds()
        for each in settled
        if each.settled_by == "poll" and each.late_callback_at is not None and each.settled_at is not None
    ]
    times = [(each.settled_at - each.created_at).total_seconds() for each in settled if each.settled_at is not None]
    return TaskFigures(
        count=len(samples),
        callbacks=callback_figures(settled, now),
        polls=sum(each.polls for each in settled) / len(settled) if settled else None,
        delay=quantile(delays, 0.5),
        delay_95=quantile(delays, 0.95),
        settle=quantile(times, 0.5),
        settle_95=quantile(times, 0.95),
    )


def callback_figures(settled: Iterable[TaskSample], now: datetime) -> CallbackFigures:
    """Return how tasks ended."""
    counts = {"first": 0, "late": 0, "lost": 0, "waiting": 0, "other": 0}
    for each in settled:
        counts[_end_of(each, now)] += 1
    return CallbackFigures(**counts)


def _end_of(task: TaskSample, now: datetime) -> str:
    if task.settled_by == "callback":
        return "first"
    if task.settled_by != "poll" or task.settled_at is None:
        return "other"
    if task.late_callback_at is not None or task.called_back_at == task.settled_at:
        return "late"
    return "waiting" if now - task.settled_at < LOST_AFTER else "lost"


def delivery_figures(samples: Sequence[DeliverySample]) -> DeliveryFigures:
    """Return the figures of deliveries."""
    times = [
        max(0.0, (each.finished_at - each.created_at).total_seconds())
        for each in samples
        if each.status == "delivered" and each.finished_at is not None
    ]
    return DeliveryFigures(
        count=len(samples),
        dead=sum(each.status == "dead" for each in samples),
        waiting=sum(each.status == "pending" for each in samples),
        handover=quantile(times, 0.5),
        handover_95=quantile(times, 0.95),
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value that a share of `values` does not exceed (nearest rank), None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
