"""When a task's next step is due: applies the settings and the estimates to the pure schedule."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from service.domain.poll_schedule import CallbackStats, RunTimeEstimate, estimate, next_poll
from service.domain.ports.unit_of_work import RunTime
from service.domain.result_wait import result_awaited_until
from service.domain.task import Source, Status, Task

LIST_SEARCH_INTERVAL = timedelta(seconds=20)
"""Pause between searches of a provider's list for a submission whose reply was lost."""

MEASURED_SOURCES = frozenset({Source.CALLBACK, Source.POLL})
"""Sources of ends whose run times count: a reply that reports an end itself has no run time."""

GUESSED_ENDS = frozenset({Status.EXPIRED, Status.FAILED})
"""Our own conclusions, which a later fact from the provider may overrule while the task is polled."""

POLL_MAX_AFTER_GUESS = timedelta(hours=1)
"""Longest pause between polls after such a conclusion."""

PAUSE_WHILE_CLOCK_DOUBTED = timedelta(minutes=5)
"""How long a task that would end for its age waits for its next step while the clock is doubted."""


@dataclass(kw_only=True)
class PollPlanner:
    """Decides `due_at` after every update.

    `estimates` is a cache by bucket. `jitter` returns a number from 0 to 1. `lists` is true if the provider has a list
    that can be searched. `clock_doubted` returns whether the system clock jumped forward lately: then no task ends for
    its age, since it may not be true, and could not be taken back.
    """

    poll_first: timedelta | None
    poll_max: timedelta
    in_doubt_for: timedelta
    retention: timedelta
    lists: bool
    jitter: Callable[[], float]
    clock_doubted: Callable[[], bool] = lambda: False
    estimates: Mapping[str, RunTimeEstimate] = field(default_factory=dict)

    def update_estimates(self, run_times: Iterable[RunTime], callback_stats: CallbackStats) -> None:
        """Replace the estimates by those for these run times and callback statistics."""
        by_bucket = groupby(sorted(run_times, key=lambda run: run.bucket), key=lambda run: run.bucket)
        found = {bucket: estimate(list(runs), trusted=callback_stats.trusted) for bucket, runs in by_bucket}
        self.estimates = {bucket: expected for bucket, expected in found.items() if expected}

    def due(self, task: Task, now: datetime) -> datetime | None:
        """Return when `task` is to be polled next; None for never."""
        if task.final or task.status is Status.SUBMITTING:
            return None
        if task.status is Status.QUEUED:
            return task.due_at
        if task.upstream_id is None and task.hinted_id is None:
            return self._due_without_id(task, now)
        if task.status not in GUESSED_ENDS:
            return self._later_if_clock_doubted(max(now, min(self._next_poll(task, now), task.deadline_at)), now)
        kept = now <= task.created_at + self.retention or self.clock_doubted()
        return self._next_poll(task, now) if kept else None

    def overdue(self, task: Task, now: datetime) -> bool:
        """Return whether the deadline of `task` has passed; never while the clock is doubted."""
        return now >= task.deadline_at and not self.clock_doubted()

    def abandoned(self, task: Task, now: datetime) -> bool:
        """Return whether the doubt about a lost reply is over; never while the clock is doubted."""
        return now >= self.abandoned_at(task) and not self.clock_doubted()

    def _later_if_clock_doubted(self, due_at: datetime, now: datetime) -> datetime:
        """Return when a step is due that may end the task: while the clock is doubted it does not, so not at once."""
        return max(due_at, now + PAUSE_WHILE_CLOCK_DOUBTED) if due_at <= now and self.clock_doubted() else due_at

    def _due_without_id(self, task: Task, now: datetime) -> datetime | None:
        if task.status in GUESSED_ENDS:
            return None
        if task.status is not Status.IN_DOUBT:
            return self._later_if_clock_doubted(task.deadline_at, now)
        if task.hinted_fact:  # of a task without any result as well: once it is not awaited any more
            awaited_until = result_awaited_until(task)
            return self._later_if_clock_doubted(max(now, awaited_until), now) if awaited_until else now
        abandoned_at = self.abandoned_at(task)
        if not self.lists:
            return self._later_if_clock_doubted(abandoned_at, now)
        next_search = now + LIST_SEARCH_INTERVAL
        latest = abandoned_at if now < abandoned_at else max(now, task.deadline_at)
        return self._later_if_clock_doubted(min(next_search, latest), now)

    def abandoned_at(self, task: Task) -> datetime:
        """Return when the doubt about a lost reply ends; at the deadline, once a callback reported the task."""
        if task.hinted_at or task.hinted_id:
            return task.deadline_at
        return min((task.submitted_at or task.created_at) + self.in_doubt_for, task.deadline_at)

    def _next_poll(self, task: Task, now: datetime) -> datetime:
        """Return the next poll; a reported end without any result is followed like the hint of a callback."""
        until = result_awaited_until(task)
        planned = next_poll(
            submitted_at=task.submitted_at or task.created_at,
            now=now,
            polls=task.polls,
            expected=self.estimates.get(task.bucket),
            hinted_at=task.hinted_at or task.empty_since,
            poll_first=self.poll_first,
            poll_max=POLL_MAX_AFTER_GUESS if task.status in GUESSED_ENDS else self.poll_max,
            jitter=self.jitter(),
        )
        return min(planned, until) if until and until > now else planned

    def run_time(self, before: Task, after: Task, now: datetime) -> RunTime | None:
        """Return the run time that the end of a task shows; None if it shows none.

        A callback shows the end itself. A poll shows only that the end lies between two polls: the current estimate is
        used as far as it fits between them, so that late polls do not delay later ones.
        """
        if before.submitted_at is None or after.guessed or after.settled_by not in MEASURED_SOURCES:
            return None
        latest = ((after.hinted_at or now) - before.submitted_at).total_seconds()
        earliest = ((before.polled_at or before.submitted_at) - before.submitted_at).total_seconds()
        expected = self.estimates.get(before.bucket)
        between = max(earliest, min(latest, expected.median if expected else earliest))
        seconds = latest if after.hinted_at else between
        return RunTime(bucket=before.bucket, seconds=max(0.0, seconds), called_back=after.hinted_at is not None, at=now)
