"""APScheduler's place in the simulation: it rings on the same grid of times, but only where something can be due.

Hours in which nothing is due cost nothing that way. A `faithful` one rings at every beat of the first minutes.
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
"""The job that makes one full round, on a platform that sleeps in between."""

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
FAITHFUL_FOR = 200.0
MAX_PAUSE = 5.0
"""Seconds at most between two looks of a round that finds nothing although something is due."""

IDLE_AFTER = 250.0
PAUSE_SHARE = 0.1
"""Once nothing at all has moved for so long, as when the day's budget is spent, a rest may take this share of the time
since then."""


class DueTimes:
    """Reads from the database when each round may find something; all times in seconds of the loop."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._found: dict[str, float] | None = None

    def changed(self) -> None:
        """Hear that the database has changed."""
        self._found = None

    def read(self) -> dict[str, float]:
        """Return for each round the moment from which it may have something to do, infinity for none."""
        if self._found is None:
            queued, polled, overdue, pending, submitting, run_times, unread = self._reader.execute(DUE_TIMES).fetchone()
            self._found = {
                "submit": _seconds(queued),
                "reconcile": min(_seconds(polled), _seconds(overdue)),
                "dispatch": _seconds(pending),
                "sweep": _seconds(submitting),
                "learned": float(run_times),
                "inbox": _seconds(unread),
            }
            self._found[RECONCILE] = min(moment for name, moment in self._found.items() if name != "learned")
        return self._found

    def any(self, query: str, values: dict[str, Any]) -> bool:
        """Return whether `query` finds a row; it may name any of `values`, moments among them."""
        plain = {name: _micros(value) if isinstance(value, datetime) else value for name, value in values.items()}
        return self._reader.execute(query, plain).fetchone() is not None


def _micros(moment: datetime) -> int:
    return (moment - START) // timedelta(microseconds=1) + EPOCH


def _seconds(moment: int | None) -> float:
    return math.inf if moment is None else (moment - EPOCH) / MICROSECONDS


@dataclass(kw_only=True)
class Job:
    """One round that is rung every so many seconds; `at` is the beat that is waited for.

    `pause` grows while it finds nothing although something is due, as for a limit or a pause of the upstream's.
    """

    run: Callable[[], Awaitable[None]]
    name: str
    every: float
    at: float = math.inf
    pause: float = 0.0
    fired: float = -math.inf
    timer: asyncio.TimerHandle | None = None


class SimScheduler:
    """Stands in for AsyncIOScheduler: jobs at intervals from its start; `ahead` says how far its clock is wrong."""

    def __init__(self, loop: SimLoop, due_times: DueTimes, ahead: Callable[[], float], *, faithful: bool) -> None:
        self._loop = loop
        self._ahead = ahead
        self._due_times = due_times
        self._faithful = faithful
        self._jobs: list[Job] = []
        self._context = copy_context()
        self._began = 0.0
        self._moved_at = 0.0
        self._run_times_seen = 0.0
        self._sweep_until = 0.0
        self._scheduling = False
        self.running = False

    def add_job(self, run: Callable[..., Awaitable[None]], _kind: str, *, args: Any, seconds: float, **_: Any) -> None:
        """Add a round, as APScheduler does."""
        self.add(args[0].name, lambda: run(*args), every=seconds)

    def add(self, name: str, run: Callable[[], Awaitable[None]], *, every: float) -> None:
        """Add what is rung every so many seconds, where its interest says that it may find something."""
        self._jobs.append(Job(run=run, name=name, every=every))

    def start(self) -> None:
        """Begin to ring."""
        self.running = True
        self._began = self._moved_at = self._loop.time()
        self._schedule()

    def shutdown(self, *, wait: bool) -> None:
        """Ring no more."""
        assert not wait
        self.running = False
        for job in self._jobs:
            if job.timer:
                job.timer.cancel()

    def clock_jumped(self) -> None:
        """Hear that the clock has jumped: the next beat of the sweep looks at it."""
        self._sweep_until = self._loop.time() + MAX_PAUSE + 1.0
        self.reschedule(moved=True)

    def reschedule(self, *, moved: bool) -> None:
        """Hear of a commit; where nothing has moved for long, only one that changed something ends the rest."""
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
        for job in self._jobs:
            self._set(job, self._next(job, found))

    def _next(self, job: Job, found: dict[str, float]) -> float:
        """Return the first beat after now at which the round may find something."""
        if self._faithful or (job.name == "sweep" and self._loop.time() < self._sweep_until):
            wanted = 0.0
        elif job.name == "learn":
            wanted = 0.0 if found["learned"] != self._run_times_seen else math.inf
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
        if job.name == "learn" and not self._faithful:
            self._run_times_seen = self._due_times.read()["learned"]
        if not self._faithful:  # a faithful one finds nothing at most beats, as nothing need be due at them
            job.pause = min(self._max_pause(), job.pause * 2 + job.every / 2)
        job.fired = self._loop.time()
        self._loop.create_task(_run_job(job))
        self._schedule_soon()


async def _run_job(job: Job) -> None:
    await job.run()
