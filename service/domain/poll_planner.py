"""When a task's next step is due: the settings and what was learned, put to the pure schedule."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from service.domain.poll_schedule import CallbackStats, RunTimeEstimate, estimate, next_poll
from service.domain.ports.unit_of_work import RunTime
from service.domain.task import Source, Status, Task

LOOK_AGAIN = timedelta(seconds=20)
"""Pause between looks into a provider's list for a submission whose reply was lost."""

HEARD = frozenset({Source.CALLBACK, Source.POLL})
"""Roads by which an end that took its time is learned: a reply that is an end itself teaches nothing."""

OURS = frozenset({Status.EXPIRED, Status.FAILED})
"""Conclusions of ours that a later word of the upstream may overrule, for as long as we keep asking."""

POLL_MAX_OURS = timedelta(hours=1)
"""Longest pause between questions after such a conclusion."""


@dataclass(kw_only=True)
class PollPlanner:
    """Decides `due_at` after every fact. `learned` is a cache of what the store knows: losing it loses nothing.

    `jitter` returns a number from 0 to 1. `lists` says whether the provider has a list to look into.
    """

    poll_first: timedelta | None
    poll_max: timedelta
    in_doubt_for: timedelta
    retention: timedelta
    lists: bool
    jitter: Callable[[], float]
    learned: Mapping[str, RunTimeEstimate] = field(default_factory=dict)

    def update_estimates(self, run_times: Iterable[RunTime], callback_stats: CallbackStats) -> None:
        """Replace what was learned by what these run times say, and the callbacks that were `callback_stats`."""
        by_bucket = groupby(sorted(run_times, key=lambda run: run.bucket), key=lambda run: run.bucket)
        studied = {bucket: estimate(list(runs), trusted=callback_stats.trusted) for bucket, runs in by_bucket}
        self.learned = {bucket: one for bucket, one in studied.items() if one}

    def due(self, task: Task, now: datetime) -> datetime | None:
        """Return when the upstream is to be asked about `task` next; None for never."""
        if task.final or task.status is Status.SUBMITTING:
            return None
        if task.status is Status.QUEUED:
            return task.due_at
        if task.upstream_id is None and task.hinted_id is None:
            return self._due_without_id(task, now)
        if task.status not in OURS:
            return max(now, min(self._next_poll(task, now), task.deadline_at))
        return self._next_poll(task, now) if now <= task.created_at + self.retention else None

    def _due_without_id(self, task: Task, now: datetime) -> datetime | None:
        if task.status in OURS:
            return None
        if task.status is not Status.IN_DOUBT:
            return task.deadline_at
        if task.hinted_fact:
            return now
        given_up_at = self.abandoned_at(task)
        if not self.lists:
            return given_up_at
        at = now + LOOK_AGAIN
        return min(at, given_up_at if now < given_up_at else max(now, task.deadline_at))

    def abandoned_at(self, task: Task) -> datetime:
        """Return when a lost reply is no longer waited for: later, when a callback said that the task lives."""
        if task.hinted_at or task.hinted_id:
            return task.deadline_at
        return min((task.submitted_at or task.created_at) + self.in_doubt_for, task.deadline_at)

    def _next_poll(self, task: Task, now: datetime) -> datetime:
        return next_poll(
            submitted_at=task.submitted_at or task.created_at,
            now=now,
            polls=task.polls,
            learned=self.learned.get(task.bucket),
            hinted_at=task.hinted_at,
            poll_first=self.poll_first,
            poll_max=POLL_MAX_OURS if task.status in OURS else self.poll_max,
            jitter=self.jitter(),
        )

    def run_time(self, before: Task, after: Task, now: datetime) -> RunTime | None:
        """Return what the end of a task teaches; None when it teaches nothing.

        A hint tells the end itself. A poll tells only that it lay between two polls: what was believed before is
        kept as far as it fits between them, so that late polls do not teach later ones.
        """
        if before.submitted_at is None or after.guessed or after.settled_by not in HEARD:
            return None
        latest = ((after.hinted_at or now) - before.submitted_at).total_seconds()
        earliest = ((before.polled_at or before.submitted_at) - before.submitted_at).total_seconds()
        believed = self.learned.get(before.bucket)
        between = max(earliest, min(latest, believed.usual if believed else earliest))
        seconds = latest if after.hinted_at else between
        return RunTime(bucket=before.bucket, seconds=max(0.0, seconds), called_back=after.hinted_at is not None, at=now)
