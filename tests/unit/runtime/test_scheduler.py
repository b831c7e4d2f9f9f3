"""The clock that rings the rounds."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from structlog.testing import capture_logs

from service.domain.errors import StoreUnavailable
from service.runtime import scheduler as ticker_module
from service.runtime.scheduler import ClockSafeScheduler, JobScheduler, PeriodicJob
from service.storage.local_signals import LocalSignals
from tests.support.task_loop import TIMEOUT, open_loop
from tests.support.worker_builder import rounds_of

SELDOM = timedelta(hours=1)


class Work:
    """A round's work: counts its runs, tells of the next one, and may be held up or broken."""

    def __init__(self, *errors: BaseException) -> None:
        self.runs = 0
        self.finished = 0
        self.began = asyncio.Event()
        self.held_up = asyncio.Event()
        self.held_up.set()
        self.errors = list(errors)

    async def run(self) -> int:
        """Run once."""
        self.runs += 1
        self.began.set()
        await self.held_up.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.finished += 1
        return 0

    async def begins(self) -> None:
        """Return once a run has begun since the last time."""
        async with asyncio.timeout(TIMEOUT):
            await self.began.wait()
        self.began.clear()


def _ticker(run: Callable[[], Awaitable[int]], every: timedelta = SELDOM) -> tuple[JobScheduler, LocalSignals]:
    signals = LocalSignals()
    return JobScheduler([PeriodicJob(name="one", run=run, every=every, topic="one")], signals), signals


# ── the ticker ───────────────────────────────────────────────────────────────


async def test_every_round_is_run_at_the_start() -> None:
    """What became due while nobody worked is caught up at once."""
    work = Work()
    ticker, _ = _ticker(work.run)
    await ticker.start()
    await work.begins()
    await ticker.stop()
    assert work.finished == 1


async def test_time_rings() -> None:
    """A round comes again by time alone."""
    work = Work()
    ticker, _ = _ticker(work.run, every=timedelta(milliseconds=5))
    await ticker.start()
    for _ in range(3):
        await work.begins()
    await ticker.stop()


class SetClock(datetime):
    """The machine's clock, which a test puts on or back."""

    by = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        """Return the time that the clock shows."""
        return datetime.now(tz) + cls.by


@pytest.mark.parametrize("by", [timedelta(hours=-1), timedelta(hours=1)])
async def test_time_rings_on_when_the_clock_jumps(by: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is put back by an hour does not keep every round waiting for an hour."""
    monkeypatch.setattr(SetClock, "by", timedelta())
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", SetClock)
    monkeypatch.setattr("service.runtime.scheduler.datetime", SetClock)
    monkeypatch.setattr("service.runtime.scheduler.LOOK_AT_THE_CLOCK", timedelta(milliseconds=5))
    work = Work()
    ticker, _ = _ticker(work.run, every=timedelta(milliseconds=5))
    await ticker.start()
    await work.begins()
    SetClock.by = by
    for _ in range(5):
        await work.begins()
    await ticker.stop()


async def test_ring_during_a_running_round_is_not_lost() -> None:
    """However often its topic rings while it runs, the round is run once more afterwards."""
    work = Work()
    ticker, signals = _ticker(work.run)
    work.held_up.clear()
    await ticker.start()
    await work.begins()
    for _ in range(3):
        signals.notify("one")
        await asyncio.sleep(0)
    work.held_up.set()
    await work.begins()
    await ticker.stop()
    assert work.runs == 2


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), RuntimeError("a fault of ours")])
async def test_failing_round_is_rung_again(error: Exception) -> None:
    """A round that breaks off takes neither the ticker nor its own next run along."""
    work = Work(error)
    ticker, signals = _ticker(work.run)
    await ticker.start()
    await work.begins()
    signals.notify("one")
    await work.begins()
    await ticker.stop()
    assert (work.runs, work.finished) == (2, 1)


async def test_round_with_work_is_run_until_there_is_none() -> None:
    """A round that took rows in hand is run again at once."""
    counts = [3, 2, 0]
    done = asyncio.Event()

    async def run() -> int:
        count = counts.pop(0)
        if not counts:
            done.set()
        return count

    ticker, _ = _ticker(run)
    await ticker.start()
    async with asyncio.timeout(TIMEOUT):
        await done.wait()
    await ticker.stop()
    assert counts == []


async def test_stop_waits_for_the_running_round() -> None:
    """A round that is running when the stop comes is let finish, and none begins after it."""
    work = Work()
    ticker, signals = _ticker(work.run, every=timedelta(milliseconds=5))
    work.held_up.clear()
    await ticker.start()
    await work.begins()
    stopping = asyncio.create_task(ticker.stop())
    signals.notify("one")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stopping.done()
    work.held_up.set()
    await stopping
    assert (work.runs, work.finished) == (1, 1)


async def test_stop_cuts_a_round_off_in_the_end() -> None:
    """A round that hangs does not keep the process from stopping."""
    work = Work()
    ticker, _ = _ticker(work.run)
    work.held_up.clear()
    await ticker.start()
    await work.begins()
    await ticker.stop(seconds=0.01)
    assert work.finished == 0


async def test_ticker_says_what_keeps_it_from_ringing() -> None:
    """It is failure_reason until it has begun, when one of its tasks has ended, and once it stops."""
    ticker, _ = _ticker(Work().run)
    assert ticker.failure_reason() == "the rounds have not begun yet"
    await ticker.start()
    assert ticker.failure_reason() is None
    ticker._workers[0].cancel()
    await asyncio.wait(ticker._workers)
    assert ticker.failure_reason() == "round-one has ended unforeseen; restart the process"
    await ticker.stop()
    assert ticker.failure_reason() == "the process is stopping"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), BaseExceptionGroup("several", [GeneratorExit()])])
async def test_round_that_ends_for_good_is_told(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that no job should raise ends its task, is logged and becomes the failure reason; a stop is not."""
    monkeypatch.setattr(ticker_module, "log", structlog.get_logger())
    work = Work(error)
    ticker, _ = _ticker(work.run)
    with capture_logs() as lines:
        await ticker.start()
        await asyncio.wait(ticker._workers, timeout=TIMEOUT)
        await asyncio.sleep(0)
        assert ticker.failure_reason() == "round-one has ended unforeseen; restart the process"
        await ticker.stop()
    assert [(line["log_level"], line["what"]) for line in lines] == [("error", "round-one")]


async def test_the_clock_rings_on_where_nothing_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """APScheduler names no time to wait for when it has no job; the clock is looked at all the same."""
    scheduler = ClockSafeScheduler(timezone=UTC)
    monkeypatch.setattr(AsyncIOScheduler, "_process_jobs", lambda _: None)
    assert scheduler._process_jobs() == 2.0


async def test_missed_rings_are_one_ring() -> None:
    """The clock's jobs coalesce, never run twice at once, and are never dropped for being late."""
    ticker, _ = _ticker(Work().run)
    await ticker.start()
    jobs = ticker._scheduler.get_jobs()
    assert [(job.id, job.coalesce, job.max_instances, job.misfire_grace_time) for job in jobs] == [
        ("one", True, 1, None)
    ]
    await ticker.stop()


def test_every_round_has_a_name_of_its_own(tmp_path: Path) -> None:
    """The rounds cover learn, sweep, submit, reconcile, dispatch, orphans and prune, each with a rhythm."""

    async def names() -> list[str]:
        async with open_loop(tmp_path) as loop:
            return [one.name for one in rounds_of(loop, []).jobs() if one.every > timedelta()]

    assert asyncio.run(names()) == ["learn", "inbox", "sweep", "submit", "reconcile", "dispatch", "orphans", "prune"]
