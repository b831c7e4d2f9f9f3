"""A stop: from its first moment nothing is begun, all that is in hand ends side by side, and what is known is kept."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest.mock import AsyncMock, patch

import pytest

from service.domain.task import Status
from service.runtime import process as main
from tests.support.task_loop import HOUR, TIMEOUT, open_loop

T = TypeVar("T")


class Held:
    """Holds what `does` returns back until it is let go."""

    def __init__(self, does: Callable[..., Awaitable[Any]]) -> None:
        self._does = does
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, *given: Any, **named: Any) -> Any:
        """Do it, and wait."""
        result = await self._does(*given, **named)
        self.began.set()
        await self.go.wait()
        return result


async def _in_time(work: Awaitable[T]) -> T:
    async with asyncio.timeout(TIMEOUT):
        return await work


async def test_submission_that_had_not_left_at_the_word_to_stop_never_does(tmp_path: Path) -> None:
    """Its reply might come too late: it is queued again, due at once and unbilled, though the stop has time left."""
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


async def test_tasks_that_are_being_claimed_at_the_word_to_stop_are_queued_again(tmp_path: Path) -> None:
    """A round that a slow database holds up starts no submission into a process that ends."""
    async with open_loop(tmp_path) as loop:
        claim = Held(loop.store.tasks.claim_submissions)
        task = await loop.accept()
        with patch.object(loop.store.tasks, "claim_submissions", claim):
            claiming = asyncio.create_task(loop.submitter.run_once())
            await _in_time(claim.began.wait())
            await loop.submitter.drain(0)
            claim.go.set()
            assert await _in_time(claiming) == 0
        after = await loop.task(task.id)
        assert (after.status, after.leased_until, after.due_at) == (Status.QUEUED, None, loop.clock.now())
        assert not loop.upstream.charges


async def test_questions_that_are_being_claimed_at_the_word_to_stop_are_given_back(tmp_path: Path) -> None:
    """The next process may ask at once."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.clock.move(HOUR)
        claim = Held(loop.store.tasks.claim_polls)
        with patch.object(loop.store.tasks, "claim_polls", claim):
            claiming = asyncio.create_task(loop.poller.run_once())
            await _in_time(claim.began.wait())
            await loop.poller.drain(0)
            claim.go.set()
            assert await _in_time(claiming) == 0
        after = await loop.task(task.id)
        assert (after.leased_until, after.due_at) == (None, loop.clock.now())
        assert loop.upstream.polled == []


async def test_no_question_is_claimed_while_the_stop_waits_for_one_that_is_being_born(tmp_path: Path) -> None:
    """A commit under way holds up the end of the stop, not its beginning."""
    async with open_loop(tmp_path) as loop:
        loop.poller.open()
        task = await loop.submitted()
        loop.clock.move(HOUR)
        due = await loop.task(task.id)
        with loop.immediate_polls.reservations() as born:
            born.lease(due, loop.clock.now())
            stopping = asyncio.create_task(loop.poller.drain(TIMEOUT))
            await asyncio.sleep(0)
            assert await loop.poller.run_once() == 0
            born.tasks.clear()  # its transaction came to nothing
        await _in_time(stopping)


class Stopping:
    """A service that is told to stop: notes in which order its parts end, each when it is let go."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.ends = {name: asyncio.Event() for name in ("ticker", "rounds", "flush")}
        health = SimpleNamespace(ready=AsyncMock(return_value=None))
        self.parts = SimpleNamespace(
            store=SimpleNamespace(health=health),
            worker=SimpleNamespace(drain=self._part("rounds")),
            receiver=SimpleNamespace(flush=self._part("flush")),
        )
        self.ticker = SimpleNamespace(start=AsyncMock(), stop=self._part("ticker"), failure_reason=lambda: None)

    def _part(self, name: str) -> Callable[..., Awaitable[None]]:
        async def end(*_: float) -> None:
            self.notes.append(f"{name} ends")
            await self.ends[name].wait()
            self.notes.append(f"{name} ended")

        return end

    async def run(self, stopping: asyncio.Event, last_request: asyncio.Event) -> None:
        """Work until `stopping` is set and the last request has ended."""
        async with main._running_jobs(cast("Any", self.parts), cast("Any", self.ticker), stopping):
            await last_request.wait()


async def _settle_down() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_work_ends_beside_the_last_requests_and_the_ticker() -> None:
    """Neither a client that is stuck nor a round that hangs keeps the rest from being drained from the first moment."""
    service, stopping, last_request = Stopping(), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(service.run(stopping, last_request))
    await _settle_down()
    assert service.notes == []
    stopping.set()
    await _settle_down()
    assert sorted(service.notes) == ["rounds ends", "ticker ends"]
    for end in service.ends.values():
        end.set()
    last_request.set()
    await _in_time(running)


async def test_what_the_last_requests_brought_is_written_down_before_the_store_closes() -> None:
    """The block ends only once what waits for a commit has it, though nobody may wait for it any more."""
    service, stopping, last_request = Stopping(), asyncio.Event(), asyncio.Event()
    service.ends["ticker"].set()
    service.ends["rounds"].set()
    running = asyncio.create_task(service.run(stopping, last_request))
    stopping.set()
    await _settle_down()
    assert "flush ends" not in service.notes
    last_request.set()
    await _settle_down()
    assert service.notes[-1] == "flush ends"
    assert not running.done()
    service.ends["flush"].set()
    await _in_time(running)


async def test_a_database_that_takes_nothing_more_lengthens_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written down in the time of a stop is let go."""
    monkeypatch.setattr(main, "STOP_WITHIN", 0)
    service, stopping, last_request = Stopping(), asyncio.Event(), asyncio.Event()
    service.ends["ticker"].set()
    service.ends["rounds"].set()
    last_request.set()
    await _in_time(service.run(stopping, last_request))
    assert "flush ended" not in service.notes
