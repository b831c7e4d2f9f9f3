"""Run periodic jobs: APScheduler triggers them by time, topics of signals wake them earlier."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from service.domain.errors import StoreUnavailable
from service.domain.ports.signals import Signals

if TYPE_CHECKING:
    from service.runtime.clock_safe_scheduler import ClockSafeScheduler

log = structlog.get_logger("boomerang.runtime")

IDLE_AFTER = 5.0
"""Seconds without work and without a notification after which a job with a topic is idle."""

IDLE_INTERVAL = 2.0
"""Minimum seconds between two runs of an idle job."""

LISTEN_TIMEOUT = 3600.0
"""Seconds of one wait for a topic. It is long because an idle process need not wake for it."""


@dataclass(frozen=True, kw_only=True)
class PeriodicJob:
    """A recurring job: its function, interval, and the topic whose notification runs it earlier.

    With `repeat`, the job runs again at once while `run` returns a number of rows above 0. A job with a topic that is
    idle runs every two seconds at most.
    """

    name: str
    run: Callable[[], Awaitable[object]]
    every: timedelta
    topic: str | None = None
    repeat: bool = True


@dataclass(slots=True)
class JobScheduler:
    """Run each job on its interval, and immediately when its topic is notified. A failed job is logged and runs again.

    A trigger only wakes the task of the job, so that neither a trigger nor a stop interrupts a run. A trigger during a
    run causes one more run.
    """

    jobs: list[PeriodicJob]
    signals: Signals
    _scheduler: "ClockSafeScheduler | None" = field(init=False, default=None)
    _wake_events: dict[str, asyncio.Event] = field(init=False, default_factory=dict)
    _busy_at: dict[str, float] = field(init=False, default_factory=dict)
    _ran_at: dict[str, float] = field(init=False, default_factory=dict)
    _listeners: list[asyncio.Task[None]] = field(init=False, default_factory=list)
    _workers: list[asyncio.Task[None]] = field(init=False, default_factory=list)
    _stopping: bool = field(init=False, default=False)

    def failure_reason(self) -> str | None:
        """Return why no jobs run, or None."""
        if self._stopping:
            return "the process is stopping"
        if not self._workers:
            return "the jobs have not started yet"
        ended = [task.get_name() for task in (*self._workers, *self._listeners) if task.done()]
        return f"background task {ended[0]} exited unexpectedly, restart the process" if ended else None

    async def start(self) -> None:
        """Run every job once, then on its interval; those of one interval run one after the other, spread over it.

        If all ran in one moment, a callback that arrives then would wait for all of them.
        """
        # a process answers its first requests before it needs the library, whose import looks at all installed packages
        from service.runtime.clock_safe_scheduler import ClockSafeScheduler  # noqa: PLC0415

        self._scheduler = self._scheduler or ClockSafeScheduler(timezone=UTC)
        started_at = datetime.now(UTC)
        for number, job in enumerate(self.jobs, 1):
            self._wake_events[job.name] = asyncio.Event()
            self._wake(job)
            self._workers.append(self._start_background(self._run_when_woken(job), name=f"job-{job.name}"))
            self._scheduler.add_job(
                self._tick,
                "interval",
                args=[job],
                seconds=job.every.total_seconds(),
                start_date=started_at + job.every * (number / len(self.jobs)),
                id=job.name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )
            if job.topic:
                self._listeners.append(self._start_background(self._listen(job, job.topic), name=f"topic-{job.topic}"))
        self._scheduler.start()

    def _start_background(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start `work`, which runs until the stop; log an error if it ends earlier."""

        def log_unexpected_exit(task: asyncio.Task[None]) -> None:
            if not self._stopping:
                error = None if task.cancelled() else task.exception()
                log.error("background task exited unexpectedly, restart the process", name=name, exc_info=error)

        task = asyncio.create_task(work, name=name)
        task.add_done_callback(log_unexpected_exit)
        return task

    async def stop(self, seconds: float = 5.0) -> None:
        """Trigger no more jobs, wait up to `seconds` for running ones, then cancel them."""
        self._stopping = True
        if self._scheduler and self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        for listener in self._listeners:
            listener.cancel()
        for woken in self._wake_events.values():
            woken.set()
        if self._workers:
            await asyncio.wait(self._workers, timeout=seconds)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._listeners, *self._workers, return_exceptions=True)

    async def _tick(self, job: PeriodicJob) -> None:
        now = asyncio.get_running_loop().time()
        idle = job.topic and now - self._busy_at[job.name] > IDLE_AFTER
        if not (idle and now - self._ran_at[job.name] < IDLE_INTERVAL):
            self._wake_events[job.name].set()

    def _wake(self, job: PeriodicJob) -> None:
        self._busy_at[job.name] = self._ran_at[job.name] = asyncio.get_running_loop().time()
        self._wake_events[job.name].set()

    async def _listen(self, job: PeriodicJob, topic: str) -> None:
        while True:
            if await self.signals.wait(topic, LISTEN_TIMEOUT):
                self._wake(job)

    async def _run_when_woken(self, job: PeriodicJob) -> None:
        woken = self._wake_events[job.name]
        while not self._stopping:
            await woken.wait()
            woken.clear()
            if not self._stopping:
                await self._run(job)

    async def _run(self, job: PeriodicJob) -> None:
        loop = asyncio.get_running_loop()
        self._ran_at[job.name] = loop.time()
        try:
            while await job.run() and job.repeat and not self._stopping:
                self._busy_at[job.name] = loop.time()
        except StoreUnavailable as error:
            log.warning("job skipped, database unavailable", job=job.name, error=str(error))
        except Exception as error:
            log.exception("job failed", job=job.name, error=type(error).__name__)
