"""Progress of a task that expires or has expired: it makes no event, and a late end still counts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.apply_update import UpdateContext, apply_update
from service.domain.poll_planner import PollPlanner
from service.domain.task import EventType, Fact, Source, Status, Task, TaskId, UpstreamId
from service.domain.task_update import TaskUpdate

DEADLINE = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
RUNNING = Task(
    id=TaskId("t"),
    client="anna",
    provider="vtrix",
    model="m",
    bucket="b",
    created_at=DEADLINE - timedelta(hours=2),
    deadline_at=DEADLINE,
    status=Status.IN_PROGRESS,
    upstream_id=UpstreamId("up1"),
    progress=0.4,
)
EXPIRED = replace(RUNNING, status=Status.EXPIRED, guessed=True, settled_at=DEADLINE)


def _applied(task: Task, update: TaskUpdate) -> tuple[Task, Sequence[EventType]]:
    planner = PollPlanner(
        poll_first=None,
        poll_max=timedelta(minutes=5),
        in_doubt_for=timedelta(minutes=15),
        retention=timedelta(days=30),
        lists=False,
        jitter=lambda: 0.0,
    )
    result = apply_update(update, task, UpdateContext(planner=planner, now=DEADLINE + timedelta(seconds=1)))
    return (result.task or task, result.events) if result else (task, ())


def _working(**fields: Any) -> Fact:
    return Fact(status=Status.IN_PROGRESS, upstream_id=UpstreamId("up1"), progress=0.6, **fields)


def test_poll_past_the_deadline_expires_the_task_without_progress() -> None:
    """What the last poll reports is kept, and the one event is the expiry: nobody sees progress of an expired task."""
    task, events = _applied(RUNNING, TaskUpdate.poll_result(RUNNING, _working()))
    assert (task.status, task.progress, list(events)) == (Status.EXPIRED, 0.6, [EventType.EXPIRED])


@pytest.mark.parametrize("source", [Source.POLL, Source.CALLBACK])
def test_late_progress_of_an_expired_task_makes_no_event(source: Source) -> None:
    """By a poll or a callback: the task stays expired."""
    update = TaskUpdate(task_id=EXPIRED.id, fact=_working(), source=source, fence=EXPIRED.fence, expires=True)
    task, events = _applied(EXPIRED, update)
    assert (task.status, task.progress, list(events)) == (Status.EXPIRED, 0.4, [])


@pytest.mark.parametrize("source", [Source.POLL, Source.CALLBACK])
def test_late_end_of_an_expired_task_counts(source: Source) -> None:
    """A result after the expiry is the end of the task, by one event."""
    done = Fact(status=Status.COMPLETED, upstream_id=UpstreamId("up1"), output=({"url": "https://x.example/v.mp4"},))
    task, events = _applied(EXPIRED, TaskUpdate(task_id=EXPIRED.id, fact=done, source=source, fence=EXPIRED.fence))
    assert (task.status, task.final, list(events)) == (Status.COMPLETED, True, [EventType.COMPLETED])
