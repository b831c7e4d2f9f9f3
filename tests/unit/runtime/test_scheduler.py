"""The scheduler of periodic jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from structlog.testing import capture_logs

from service.domain.errors import StoreUnavailable
from service.runtime import scheduler as scheduler_module
from service.runtime.clock_safe_scheduler import ClockSafeScheduler
from service.runtime.scheduler import JobScheduler, PeriodicJob
from service.storage.local_signals import LocalSignals
from tests.support.task_loop import TIMEOUT, open_loop
from tests.support.worker_builder import build_worker

RARELY = timedelta(hours=1)


class Work:
    """The work of a job: counts its runs, signals each start, and can block or fail."""

    def __init__(self, *errors: BaseException) -> None:
        self.runs = 0
        self.finished = 0
        self.started = asyncio.Event()
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.errors = list(errors)

    async def run(self) -> int:
        """Run once."""
        self.runs += 1
        self.started.set()
        await self.unblocked.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.finished += 1
        return 0

    async def wait_for_start(self) -> None:
        """Return when a run has started since the last call."""
        async with asyncio.timeout(TIMEOUT):
            await self.started.wait()
        self.started.clear()


def _scheduler(run: Callable[[], Awaitable[int]], every: timedelta = RARELY) -> tuple[JobScheduler, LocalSignals]:
    signals = LocalSignals()
    return JobScheduler([PeriodicJob(name="one", run=run, every=every, topic="one")], signals), signals


async def test_every_job_runs_at_start() -> None:
    """Work that became due while no process ran is done at once."""
    work = Work()
    scheduler, _ = _scheduler(work.run)
    await scheduler.start()
    await work.wait_for_start()
    await scheduler.stop()
    assert work.finished == 1


async def test_job_runs_on_its_interval() -> None:
    """A job runs again by time alone."""
    work = Work()
    scheduler, _ = _scheduler(work.run, every=timedelta(milliseconds=5))
    await scheduler.start()
    for _ in range(3):
        await work.wait_for_start()
    await scheduler.stop()


async def test_jobs_of_one_interval_run_at_different_times() -> None:
    """A callback waits for one of them at most, and not for all."""
    work, names = Work(), "abcde"
    scheduler = JobScheduler([PeriodicJob(name=name, run=work.run, every=RARELY) for name in names], LocalSignals())
    await scheduler.start()
    assert scheduler._scheduler is not None
    times = sorted(job.next_run_time for job in scheduler._scheduler.get_jobs())
    await scheduler.stop()
    assert {later - earlier for earlier, later in pairwise(times)} == {RARELY / len(names)}
    assert timedelta() < times[-1] - datetime.now(UTC) <= RARELY


class SetClock(datetime):
    """The system clock, which a test moves forward or back."""

    by = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        """Return the time of the moved clock."""
        return datetime.now(tz) + cls.by


@pytest.mark.parametrize("by", [timedelta(hours=-1), timedelta(hours=1)])
async def test_jobs_run_when_the_clock_jumps(by: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves back by an hour does not delay every job by an hour."""
    monkeypatch.setattr(SetClock, "by", timedelta())
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", SetClock)
    monkeypatch.setattr("service.runtime.clock_safe_scheduler.datetime", SetClock)
    monkeypatch.setattr("service.runtime.clock_safe_scheduler.CLOCK_CHECK_INTERVAL", timedelta(milliseconds=5))
    work = Work()
    scheduler, _ = _scheduler(work.run, every=timedelta(milliseconds=5))
    await scheduler.start()
    await work.wait_for_start()
    SetClock.by = by
    for _ in range(5):
        await work.wait_for_start()
    await scheduler.stop()


async def test_notification_during_a_run_causes_one_more_run() -> None:
    """Any number of notifications during a run causes exactly one more run."""
    work = Work()
    scheduler, signals = _scheduler(work.run)
    work.unblocked.clear()
    await scheduler.start()
    await work.wait_for_start()
    for _ in range(3):
        signals.notify("one")
        await asyncio.sleep(0)
    work.unblocked.set()
    await work.wait_for_start()
    await scheduler.stop()
    assert work.runs == 2


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), RuntimeError("a bug")])
async def test_failed_job_runs_again(error: Exception) -> None:
    """A failed job stops neither the scheduler nor its own next run."""
    work = Work(error)
    scheduler, signals = _scheduler(work.run)
    await scheduler.start()
    await work.wait_for_start()
    signals.notify("one")
    await work.wait_for_start()
    await scheduler.stop()
    assert (work.runs, work.finished) == (2, 1)


async def test_job_repeats_until_no_rows_are_left() -> None:
    """A job that processed rows runs again at once."""
    counts = [3, 2, 0]
    done = asyncio.Event()

    async def run() -> int:
        count = counts.pop(0)
        if not counts:
            done.set()
        return count

    scheduler, _ = _scheduler(run)
    await scheduler.start()
    async with asyncio.timeout(TIMEOUT):
        await done.wait()
    await scheduler.stop()
    assert counts == []


async def test_stop_waits_for_the_running_job() -> None:
    """A job that runs at the stop finishes, and no other starts."""
    work = Work()
    scheduler, signals = _scheduler(work.run, every=timedelta(milliseconds=5))
    work.unblocked.clear()
    await scheduler.start()
    await work.wait_for_start()
    stopping = asyncio.create_task(scheduler.stop())
    signals.notify("one")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stopping.done()
    work.unblocked.set()
    await stopping
    assert (work.runs, work.finished) == (1, 1)


async def test_stop_cancels_a_job_that_hangs() -> None:
    """A job that hangs does not prevent the stop."""
    work = Work()
    scheduler, _ = _scheduler(work.run)
    work.unblocked.clear()
    await scheduler.start()
    await work.wait_for_start()
    await scheduler.stop(seconds=0.01)
    assert work.finished == 0


async def test_failure_reason_explains_missing_jobs() -> None:
    """There is a reason before the start, after the exit of a background task, and during the stop."""
    scheduler, _ = _scheduler(Work().run)
    assert scheduler.failure_reason() == "the jobs have not started yet"
    await scheduler.start()
    assert scheduler.failure_reason() is None
    scheduler._workers[0].cancel()
    await asyncio.wait(scheduler._workers)
    assert scheduler.failure_reason() == "background task job-one exited unexpectedly, restart the process"
    await scheduler.stop()
    assert scheduler.failure_reason() == "the process is stopping"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), BaseExceptionGroup("several", [GeneratorExit()])])
async def test_unexpected_exit_is_logged(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that ends a background task is logged and becomes the failure reason; a stop is not logged."""
    monkeypatch.setattr(scheduler_module, "log", structlog.get_logger())
    work = Work(error)
    scheduler, _ = _scheduler(work.run)
    with capture_logs() as lines:
        await scheduler.start()
        await asyncio.wait(scheduler._workers, timeout=TIMEOUT)
        await asyncio.sleep(0)
        assert scheduler.failure_reason() == "background task job-one exited unexpectedly, restart the process"
        await scheduler.stop()
    assert [(line["log_level"], line["name"]) for line in lines] == [("error", "job-one")]


async def test_clock_is_checked_without_any_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a job, APScheduler returns no wait time; the clock is checked nevertheless."""
    scheduler = ClockSafeScheduler(timezone=UTC)
    monkeypatch.setattr(AsyncIOScheduler, "_process_jobs", lambda _: None)
    assert scheduler._process_jobs() == 2.0


async def test_wake_up_after_the_shutdown_does_nothing() -> None:
    """A wake-up that was scheduled before the scheduler stopped finds no loop, and raises no error."""
    scheduler, errors = ClockSafeScheduler(timezone=UTC), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    scheduler.start()
    scheduler.wakeup()
    scheduler.shutdown(wait=False)
    scheduler._eventloop = None
    for _ in range(3):
        await asyncio.sleep(0)
    assert errors == []


async def test_missed_triggers_are_merged() -> None:
    """The jobs of APScheduler are merged when late, never concurrent and never dropped."""
    scheduler, _ = _scheduler(Work().run)
    await scheduler.start()
    assert scheduler._scheduler is not None
    jobs = scheduler._scheduler.get_jobs()
    assert [(job.id, job.coalesce, job.max_instances, job.misfire_grace_time) for job in jobs] == [
        ("one", True, 1, None)
    ]
    await scheduler.stop()


def test_worker_has_every_job(tmp_path: Path) -> None:
    """Each job has a name and an interval."""

    async def names() -> list[str]:
        async with open_loop(tmp_path) as loop:
            return [job.name for job in build_worker(loop, []).jobs() if job.every > timedelta()]

    assert asyncio.run(names()) == [
        "estimates",
        "refusals",
        "inbox",
        "sweep",
        "controls",
        "submit",
        "reconcile",
        "dispatch",
        "progress",
        "watch",
        "operator_watch",
        "key_watch",
        "search",
        "missing_handlers",
        "prune",
        "endpoints",
        "endpoint_secrets",
    ]


async def test_job_without_repeats_runs_once_for_each_trigger() -> None:
    """What such a job returns is no number of rows: the next run has its own time."""
    runs: list[int] = []

    async def run() -> int:
        runs.append(1)
        await asyncio.sleep(0)
        return 7 if len(runs) < 5 else 0

    scheduler = JobScheduler([PeriodicJob(name="one", run=run, every=RARELY, repeat=False)], LocalSignals())
    await scheduler.start()
    for _ in range(20):
        await asyncio.sleep(0)
    await scheduler.stop()
    assert len(runs) == 1
