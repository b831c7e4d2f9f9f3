"""A replacement of APScheduler: it runs jobs on the same grid of times, but only when something may be due.

Hours without due work cost nothing. A `faithful` one runs jobs at every time of the grid in the first minutes.
"""

import asyncio
import math
import sqlite3
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.loop import START, SimLoop

MICROSECONDS = 1_000_000
EPOCH = int(START.timestamp()) * MICROSECONDS

RECONCILE = "wake"
"""The job that triggers a single pass, on a platform that sleeps in between."""

DUE_TIMES = """
SELECT
 (SELECT min(max(due_at, coalesce(leased_until, 0))) FROM tasks WHERE status = 'queued'),
 (SELECT min(max(due_at, coalesce(leased_until, 0))) FROM tasks WHERE status NOT IN ('queued', 'submitting')),
 (SELECT min(deadline_at) FROM tasks WHERE status = 'queued'),
 (SELECT min(max(head.due_at, coalesce(head.leased_until, 0),
   coalesce((SELECT max(leased_until) FROM deliveries WHERE lane = head.lane AND status = 'pending'), 0)))
  FROM deliveries AS head WHERE status = 'pending' AND NOT EXISTS
  (SELECT 1 FROM deliveries WHERE lane = head.lane AND status = 'pending' AND event_seq < head.event_seq)),
 (SELECT min(coalesce(leased_until, 0)) FROM tasks WHERE status = 'submitting'),
 (SELECT count(*) FROM run_times),
 (SELECT min(received_at) FROM inbox WHERE verdict = 'unread')
"""
CONTROL_TIMES = """
SELECT
 (SELECT coalesce(sum(changed_at % 1000000007), 0) FROM circuits)
  + (SELECT coalesce(sum(since % 1000000007 + 1), 0) FROM handler_pauses),
 (SELECT min(CASE WHEN waking THEN closed_at ELSE retry_at END) FROM circuits WHERE waking OR state = 'open'),
 (SELECT min(at) FROM operator_events AS event WHERE NOT EXISTS
  (SELECT 1 FROM operator_receipts WHERE event_id = event.id)),
 (SELECT min(max(due_at, coalesce(leased_until, 0))) FROM handler_jobs),
 (SELECT min(created_at) FROM deliveries WHERE status = 'pending' AND due_at IS NULL AND endpoint_id IS NOT NULL)
"""
"""A number that changes with the circuits and pauses, and the times from which jobs of operations may find work."""
FAITHFUL_FOR = 200.0
MAX_PAUSE = 5.0
"""Maximum seconds between two runs of a job that finds nothing although something is due."""

IDLE_AFTER = 250.0
PAUSE_SHARE = 0.1
"""Share of the time without changes that a pause may last, once nothing has changed for IDLE_AFTER seconds."""


class DueTimes:
    """Reads from the database when each job may find work; all times in seconds of the loop."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._found: dict[str, float] | None = None
        self.version = 0

    def changed(self) -> None:
        """Discard the cached times after a change of the database."""
        self._found = None

    def read(self) -> dict[str, float]:
        """Return for each job the time from which it may find work, infinity for none."""
        if self._found is None:
            queued, polled, overdue, pending, submitting, run_times, unread = self._reader.execute(DUE_TIMES).fetchone()
            self._found = {
                "submit": _seconds(queued),
                "reconcile": min(_seconds(polled), _seconds(overdue)),
                "dispatch": _seconds(pending),
                "sweep": _seconds(submitting),
                "run_times": float(run_times),
                "inbox": _seconds(unread),
            }
            version, controls, events, jobs, held = self._reader.execute(CONTROL_TIMES).fetchone()
            self.version = int(version)
            operations = {"controls": controls, "operator_events": events, "handler_jobs": jobs, "endpoints": held}
            self._found[RECONCILE] = min(moment for name, moment in self._found.items() if name != "run_times")
            self._found |= {name: _seconds(moment) for name, moment in operations.items()}
        return self._found

    def any(self, query: str, values: dict[str, Any]) -> bool:
        """Return whether `query` finds a row; `values` are its parameters."""
        plain = {name: _micros(value) if isinstance(value, datetime) else value for name, value in values.items()}
        return self._reader.execute(query, plain).fetchone() is not None


def _micros(moment: datetime) -> int:
    return (moment - START) // timedelta(microseconds=1) + EPOCH


def _seconds(moment: int | None) -> float:
    return math.inf if moment is None else (moment - EPOCH) / MICROSECONDS


@dataclass(kw_only=True)
class Job:
    """One job that runs every `every` seconds; `at` is the time of its next run.

    `pause` grows while it finds nothing although something is due, as for a limit or a pause of the provider.
    """

    run: Callable[[], Awaitable[None]]
    name: str
    every: float
    at: float = math.inf
    pause: float = 0.0
    fired: float = -math.inf
    timer: asyncio.TimerHandle | None = None


class SimScheduler:
    """Replaces AsyncIOScheduler: jobs at intervals from its start; `ahead` returns the error of its clock."""

    def __init__(
        self,
        loop: SimLoop,
        due_times: DueTimes,
        ahead: Callable[[], float],
        *,
        faithful: bool,
        renewed_until: float = 0.0,
    ) -> None:
        self._loop = loop
        self._ahead = ahead
        self._due_times = due_times
        self._faithful = faithful
        self._renewed_until = renewed_until
        self._jobs: list[Job] = []
        self._context = copy_context()
        self._began = 0.0
        self._moved_at = 0.0
        self._run_times_seen = 0.0
        self._version_seen = 0
        self._controls_until = 0.0
        self._sweep_until = 0.0
        self._scheduling = False
        self.running = False

    def add_job(self, run: Callable[..., Awaitable[None]], _kind: str, *, args: Any, seconds: float, **_: Any) -> None:
        """Add a job, as APScheduler does."""
        self.add(args[0].name, lambda: run(*args), every=seconds)

    def add(self, name: str, run: Callable[[], Awaitable[None]], *, every: float) -> None:
        """Add a job that runs every so many seconds, when its due time says that it may find work."""
        self._jobs.append(Job(run=run, name=name, every=every))

    def start(self) -> None:
        """Start to run jobs."""
        self.running = True
        self._began = self._moved_at = self._loop.time()
        self._schedule()

    def shutdown(self, *, wait: bool) -> None:
        """Run no more jobs."""
        assert not wait
        self.running = False
        for job in self._jobs:
            if job.timer:
                job.timer.cancel()

    def clock_jumped(self) -> None:
        """Let the next run of the sweep notice a jump of the clock."""
        self._sweep_until = self._loop.time() + MAX_PAUSE + 1.0
        self.reschedule(moved=True)

    def stall_ended(self) -> None:
        """Run the controls again: what they read at the start, or after a change, may have failed during a stall."""
        self._controls_until = self._loop.time() + MAX_PAUSE
        self.reschedule(moved=True)

    def reschedule(self, *, moved: bool) -> None:
        """Reschedule after a commit; after a long time without changes, only a change ends the pauses."""
        if moved:
            self._moved_at = self._loop.time()
        if self._max_pause() <= MAX_PAUSE:
            for job in self._jobs:
                job.pause = 0.0
        self._schedule_soon()

    def _max_pause(self) -> float:
        idle = self._loop.time() - self._moved_at - IDLE_AFTER
        return max(MAX_PAUSE, PAUSE_SHARE * idle)

    def _schedule_soon(self) -> None:
        if self._jobs and self.running and not self._scheduling:
            self._scheduling = True
            self._loop.call_soon(self._schedule, context=self._context)

    def _schedule(self) -> None:
        self._scheduling = False
        if not self.running:
            return
        self._faithful = self._faithful and self._loop.time() < FAITHFUL_FOR
        found = {} if self._faithful else self._due_times.read()
        if self._due_times.version != self._version_seen:
            self._version_seen = self._due_times.version
            self._controls_until = (
                self._loop.time() + MAX_PAUSE
            )  # its first run may be left out, as that of an idle job
        for job in self._jobs:
            self._set(job, self._next(job, found))

    def _next(self, job: Job, found: dict[str, float]) -> float:
        """Return the first time of the grid after now at which the job may find work."""
        if self._faithful or (job.name == "sweep" and self._loop.time() < self._sweep_until):
            wanted = 0.0
        elif job.name == "keys":
            wanted = 0.0 if self._loop.time() < self._renewed_until else math.inf
        elif job.name == "estimates":
            wanted = 0.0 if found["run_times"] != self._run_times_seen else math.inf
        elif job.name == "controls" and self._loop.time() < self._controls_until:
            wanted = 0.0
        else:
            wanted = found.get(job.name, math.inf) - self._ahead()
        if math.isinf(wanted):
            return math.inf
        pause = job.pause if wanted <= job.fired and not self._faithful else 0.0
        beats = max(wanted - self._began, self._loop.time() + pause - self._began + 1e-6) / job.every
        return self._began + math.ceil(beats) * job.every

    def _set(self, job: Job, at: float) -> None:
        if at == job.at:
            return
        if job.timer:
            job.timer.cancel()
        job.at = at
        job.timer = None if math.isinf(at) else self._loop.call_at(at, self._fire, job, context=self._context)

    def _fire(self, job: Job) -> None:
        job.at = math.inf
        if job.name == "estimates" and not self._faithful:
            self._run_times_seen = self._due_times.read()["run_times"]
        if not self._faithful:  # a faithful one finds nothing at most times of the grid
            job.pause = min(self._max_pause(), job.pause * 2 + job.every / 2)
        job.fired = self._loop.time()
        self._loop.create_task(_run_job(job))
        self._schedule_soon()


async def _run_job(job: Job) -> None:
    await job.run()
