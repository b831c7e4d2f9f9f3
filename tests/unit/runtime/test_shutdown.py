"""During a shutdown nothing starts, running work ends concurrently, and every known result is recorded."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest.mock import AsyncMock, patch

import pytest

from service.domain.task import Status
from service.runtime import process
from tests.support.task_loop import HOUR, TIMEOUT, open_loop

T = TypeVar("T")


class Delayed:
    """Calls `does` and delays its result until `go` is set."""

    def __init__(self, does: Callable[..., Awaitable[Any]]) -> None:
        self._does = does
        self.called = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, *given: Any, **named: Any) -> Any:
        """Call it and wait."""
        result = await self._does(*given, **named)
        self.called.set()
        await self.go.wait()
        return result


async def _in_time(work: Awaitable[T]) -> T:
    async with asyncio.timeout(TIMEOUT):
        return await work


async def test_unsent_submission_is_not_sent_after_a_stop(tmp_path: Path) -> None:
    """Its reply could come too late: the task is queued again, due at once and unbilled, although time is left."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.send_gate = asyncio.Event()
        task = await loop.accept()
        await loop.submitter.run_once()
        await _in_time(loop.upstream.arrived.wait())
        stopping = asyncio.create_task(loop.submitter.drain(TIMEOUT))
        await asyncio.sleep(0)
        loop.upstream.send_gate.set()
        await _in_time(stopping)
        after = await loop.task(task.id)
        assert (after.status, after.leased_until, after.due_at) == (Status.QUEUED, None, loop.clock.now())
        assert not loop.upstream.charges


async def test_submissions_claimed_during_a_stop_are_queued_again(tmp_path: Path) -> None:
    """A job that a slow database delays starts no submission in a process that stops."""
    async with open_loop(tmp_path) as loop:
        claim = Delayed(loop.store.tasks.claim_submissions)
        task = await loop.accept()
        with patch.object(loop.store.tasks, "claim_submissions", claim):
            claiming = asyncio.create_task(loop.submitter.run_once())
            await _in_time(claim.called.wait())
            await loop.submitter.drain(0)
            claim.go.set()
            assert await _in_time(claiming) == 0
        after = await loop.task(task.id)
        assert (after.status, after.leased_until, after.due_at) == (Status.QUEUED, None, loop.clock.now())
        assert not loop.upstream.charges


async def test_polls_claimed_during_a_stop_are_released(tmp_path: Path) -> None:
    """The next process can poll at once."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.clock.move(HOUR)
        claim = Delayed(loop.store.tasks.claim_polls)
        with patch.object(loop.store.tasks, "claim_polls", claim):
            claiming = asyncio.create_task(loop.poller.run_once())
            await _in_time(claim.called.wait())
            await loop.poller.drain(0)
            claim.go.set()
            assert await _in_time(claiming) == 0
        after = await loop.task(task.id)
        assert (after.leased_until, after.due_at) == (None, loop.clock.now())
        assert loop.upstream.polled == []


async def test_no_poll_is_claimed_while_the_stop_waits_for_a_reservation(tmp_path: Path) -> None:
    """An open transaction delays the end of the stop, not its start."""
    async with open_loop(tmp_path) as loop:
        loop.poller.open()
        task = await loop.submitted()
        loop.clock.move(HOUR)
        due = await loop.task(task.id)
        with loop.immediate_polls.reservations() as reservations:
            reservations.lease(due, loop.clock.now())
            stopping = asyncio.create_task(loop.poller.drain(TIMEOUT))
            await asyncio.sleep(0)
            assert await loop.poller.run_once() == 0
            reservations.tasks.clear()  # its transaction was rolled back
        await _in_time(stopping)


class Stopping:
    """A stopping service: records in which order its parts end; each part ends when its event is set."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.ends = {name: asyncio.Event() for name in ("scheduler", "worker", "flush")}
        health = SimpleNamespace(ready=AsyncMock(return_value=None))
        self.application = SimpleNamespace(
            store=SimpleNamespace(health=health),
            worker=SimpleNamespace(drain=self._part("worker")),
            receiver=SimpleNamespace(flush=self._part("flush")),
            keys=SimpleNamespace(renew=AsyncMock(), remove=AsyncMock()),
        )
        self.scheduler = SimpleNamespace(start=AsyncMock(), stop=self._part("scheduler"), failure_reason=lambda: None)

    def _part(self, name: str) -> Callable[..., Awaitable[None]]:
        async def end(*_: float) -> None:
            self.notes.append(f"{name} ends")
            await self.ends[name].wait()
            self.notes.append(f"{name} ended")

        return end

    async def run(self, stopping: asyncio.Event, last_request: asyncio.Event) -> None:
        """Run until `stopping` is set and the last request has ended."""
        async with process._running_jobs(cast("Any", self.application), cast("Any", self.scheduler), stopping):
            await last_request.wait()


async def _run_pending_callbacks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_worker_requests_and_scheduler_end_concurrently() -> None:
    """Neither a stuck client nor a hanging job delays the drain of the other parts."""
    service, stopping, last_request = Stopping(), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(service.run(stopping, last_request))
    await _run_pending_callbacks()
    assert service.notes == []
    stopping.set()
    await _run_pending_callbacks()
    assert sorted(service.notes) == ["scheduler ends", "worker ends"]
    for end in service.ends.values():
        end.set()
    last_request.set()
    await _in_time(running)


async def test_last_callbacks_are_recorded_before_the_store_closes() -> None:
    """The block ends after the pending commits, although no caller may wait for them any more."""
    service, stopping, last_request = Stopping(), asyncio.Event(), asyncio.Event()
    service.ends["scheduler"].set()
    service.ends["worker"].set()
    running = asyncio.create_task(service.run(stopping, last_request))
    stopping.set()
    await _run_pending_callbacks()
    assert "flush ends" not in service.notes
    last_request.set()
    await _run_pending_callbacks()
    assert service.notes[-1] == "flush ends"
    assert not running.done()
    service.ends["flush"].set()
    await _in_time(running)


async def test_blocked_database_does_not_delay_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that cannot be recorded within the shutdown timeout are dropped."""
    monkeypatch.setattr(process, "SHUTDOWN_TIMEOUT", 0)
    service, stopping, last_request = Stopping(), asyncio.Event(), asyncio.Event()
    service.ends["scheduler"].set()
    service.ends["worker"].set()
    last_request.set()
    await _in_time(service.run(stopping, last_request))
    assert "flush ended" not in service.notes


def test_forced_exit_does_not_hold_a_process_that_ends_by_itself() -> None:
    """A process whose work has ended exits at once, with its own status, and not when the forced exit is due."""
    program = "from service.runtime.shutdown import force_exit; force_exit(after=3600)"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)  # noqa: S603 - our own program
    assert done.returncode == 0
