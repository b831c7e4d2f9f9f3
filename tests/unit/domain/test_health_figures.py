"""The health of the service over time, from samples."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.health_figures import LOST_AFTER, delivery_figures, quantile, task_figures
from service.domain.ports.health_samples import DeliverySample, TaskSample

NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
OLD = NOW - timedelta(hours=1)


def sample(settled_by: str | None = "poll", **changes: Any) -> TaskSample:
    """Return a task that ended after a minute and was polled twice."""
    fields: dict[str, Any] = {
        "point": 0,
        "status": "completed",
        "settled_by": settled_by,
        "polls": 2,
        "created_at": OLD,
        "settled_at": OLD + timedelta(minutes=1),
        "called_back_at": None,
        "late_callback_at": None,
    }
    return TaskSample(**{**fields, **changes})


def test_each_end_has_one_class() -> None:
    """A callback was first, late, or did not come; of a task that ended just now it may still come."""
    late = sample(late_callback_at=OLD + timedelta(minutes=1, seconds=30))
    young = sample(settled_at=NOW - LOST_AFTER + timedelta(seconds=1))
    unfinished = sample(None, settled_at=None)
    found = task_figures([sample("callback"), late, sample(), young, sample("submit"), unfinished], NOW)
    ends = found.callbacks
    assert (ends.first, ends.late, ends.lost, ends.waiting, ends.other) == (1, 1, 1, 1, 1)
    assert ends.settled == 3
    assert ends.loss == pytest.approx(1 / 3)
    assert (found.count, found.delay, found.delay_95, found.polls) == (6, 30.0, 30.0, 2.0)


def test_no_sample_has_no_figures() -> None:
    """Nothing is divided by zero, and nothing is made up."""
    found = task_figures([], NOW)
    assert (found.polls, found.delay, found.settle, found.callbacks.loss) == (None, None, None, None)
    assert delivery_figures([]).handover is None


def test_hand_over_counts_successful_deliveries() -> None:
    """Dead letters and waiting ones are counted apart; a clock that moved backwards gives no negative time."""

    def delivery(status: str, seconds: float | None) -> DeliverySample:
        finished = None if seconds is None else OLD + timedelta(seconds=seconds)
        return DeliverySample(point=0, status=status, created_at=OLD, finished_at=finished)

    found = delivery_figures(
        [delivery("delivered", 2.0), delivery("delivered", -1.0), delivery("dead", 90.0), delivery("pending", None)]
    )
    assert (found.count, found.dead, found.waiting) == (4, 1, 1)
    assert (found.handover, found.handover_95) == (0.0, 2.0)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 5), (0.95, 10), (1.0, 10)])
def test_quantile_is_the_nearest_rank(share: float, value: float) -> None:
    """A quantile is one of the values."""
    assert quantile([float(each) for each in range(10, 0, -1)], share) == value
