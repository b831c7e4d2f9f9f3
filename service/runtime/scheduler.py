"""APScheduler as a clock that rings: it starts rounds, and holds nothing that matters."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from service.domain.errors import StoreUnavailable
from service.domain.ports.signals import Signals

log = structlog.get_logger("boomerang.ticker")


IDLE_AFTER = 5.0
IDLE_INTERVAL = 2.0
"""Seconds without work or a topic's ring after which a round rests, and how often it is run while it does."""

LISTEN_TIMEOUT = 3600.0
"""Seconds of one wait for a topic: nothing is due at its end, so that an idle process need not wake for it."""


CLOCK_CHECK_INTERVAL = timedelta(seconds=2)
"""How often the clock is looked at, at least: one that was put back would let nothing ring for as long."""


@dataclass(frozen=True, kw_only=True)
class PeriodicJob:
    """One kind of work that comes again: what to run, how often, and the topic whose ring brings it forward.

    `run` returns how many rows it took in hand: while that is more than none, it is run again at once. A round with a
    topic that finds nothing for a while is run every two seconds at most, so that an idle process rests.
    """

    name: str
    run: Callable[[], Awaitable[int]]
    every: timedelta
    topic: str | None = None


class ClockSafeScheduler(AsyncIOScheduler):  # type: ignore[misc] # APScheduler ships no types
    """Rings on when the machine's clock jumps.

    APScheduler alone rings nothing for as long as the clock was put back, and goes through every interval that was
    skipped when it was put on.
    """

    def _process_jobs(self) -> float:
        now = datetime.now(UTC)
        for job in self.get_jobs():
            if abs(job.next_run_time - now) > job.trigger.interval + CLOCK_CHECK_INTERVAL:
                job.modify(next_run_time=now)
        wait: float | None = super()._process_jobs()  # None where it knows of nothing to wait for, as while it stops
        longest = CLOCK_CHECK_INTERVAL.total_seconds()
        return longest if wait is None else min(wait, longest)


class JobScheduler:
    """Rings every round in time, and at once when its topic rings. A failing round is logged, and rung again.

    A ring only wakes the round's own task, so that nothing that rings or stops ringing breaks into a round; what rings
    while the round is running makes it run once more.
    """

    def __init__(self, jobs: list[PeriodicJob], signals: Signals) -> None:
        self._jobs = jobs
        self._signals = signals
        self._scheduler = ClockSafeScheduler(timezone=UTC)
        self._wake_events: dict[str, asyncio.Event] = {job.name: asyncio.Event() for job in jobs}
        self._busy_at: dict[str, float] = {}
        self._ran_at: dict[str, float] = {}
        self._listeners: list[asyncio.Task[None]] = []
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False

    def failure_reason(self) -> str | None:
        """Return what keeps it from ringing, None while nothing does."""
        if self._stopping:
            return "the process is stopping"
        if not self._workers:
            return "the rounds have not begun yet"
        ended = [task.get_name() for task in (*self._workers, *self._listeners) if task.done()]
        return f"{ended[0]} has ended unforeseen; restart the process" if ended else None

    async def start(self) -> None:
        """Begin every round once, then keep ringing."""
        for job in self._jobs:
            self._wake(job)
            self._workers.append(self._start_background(self._run_when_woken(job), name=f"round-{job.name}"))
            self._scheduler.add_job(
                self._tick,
                "interval",
                args=[job],
                seconds=job.every.total_seconds(),
                id=job.name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )
            if job.topic:
                self._listeners.append(self._start_background(self._listen(job, job.topic), name=f"ticker-{job.name}"))
        self._scheduler.start()

    def _start_background(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Begin `work`, which is to go on until the stop; should it end before, the log says so."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._log_unexpected_exit)
        return task

    def _log_unexpected_exit(self, task: asyncio.Task[None]) -> None:
        if not self._stopping:
            error = None if task.cancelled() else task.exception()
            log.error("ended unforeseen; restart the process", what=task.get_name(), exc_info=error)

    async def stop(self, seconds: float = 5.0) -> None:
        """Ring no more, and let a round that is running finish; after `seconds` it is cut off."""
        self._stopping = True
        if self._scheduler.running:
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
        resting = (
            job.topic and now - self._busy_at[job.name] > IDLE_AFTER and now - self._ran_at[job.name] < IDLE_INTERVAL
        )
        if not resting:
            self._wake_events[job.name].set()

    def _wake(self, job: PeriodicJob) -> None:
        self._busy_at[job.name] = self._ran_at[job.name] = asyncio.get_running_loop().time()
        self._wake_events[job.name].set()

    async def _listen(self, job: PeriodicJob, topic: str) -> None:
        while True:
            if await self._signals.wait(topic, LISTEN_TIMEOUT):
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
            while await job.run() and not self._stopping:
                self._busy_at[job.name] = loop.time()
        except StoreUnavailable as error:
            log.warning("round put off", round=job.name, why=str(error))
        except Exception as error:
            log.exception("round broke off", round=job.name, error=type(error).__name__)
