"""Concurrency of polls, and the effect of slow commits and of the provider's pauses."""

import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest

from service.domain.errors import Throttled
from service.domain.task import Status, UpstreamId
from service.domain.task_update import TaskUpdate, UpdateResult
from service.tasks.poller import TASKS_PER_POLL_SLOT
from service.tasks.recorder import Recorder
from tests.support.task_loop import HOUR, IN_DOUBT_FOR, MINUTE, TIMEOUT, Loop, open_loop
from tests.support.wait_until_idle import ended


async def two_due(loop: Loop) -> None:
    """Complete two tasks at the provider and make them due for a poll."""
    for number in (1, 2):
        await loop.submitted()
        loop.upstream.set_fact(f"up{number}")
    loop.clock.move(HOUR)


class SlowCommits:
    """Delays commits until `go` is set; `waiting` counts them."""

    def __init__(self, loop: Loop) -> None:
        self._add = loop.recorder.add
        self.go = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)

    async def add(self, entry: TaskUpdate) -> UpdateResult:
        """Wait, then record."""
        self.waiting.release()
        await self.go.wait()
        return await self._add(entry)


async def test_next_poll_starts_while_a_result_waits_for_its_commit(tmp_path: Path) -> None:
    """A slow commit delays its own result and no poll; both results are recorded in the end."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        await two_due(loop)
        slow = SlowCommits(loop)
        with patch.object(Recorder, "add", slow.add):
            for _ in range(2):
                assert await loop.poller.run_once() == 1
                async with asyncio.timeout(TIMEOUT):
                    await slow.waiting.acquire()
            slow.go.set()
            await ended(loop.poller)
        assert loop.poller.outcomes == {"completed": 2}


async def test_concurrency_limits_polls(tmp_path: Path) -> None:
    """While one poll runs at a concurrency of one, the next task stays free for other processes."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        await two_due(loop)
        loop.upstream.poll_gate = asyncio.Event()
        assert [await loop.poller.run_once() for _ in range(TASKS_PER_POLL_SLOT)] == [1, 0, 0, 0]
        loop.upstream.poll_gate.set()
        await ended(loop.poller)
        assert await loop.poll_due() == 1


async def test_finished_poll_notifies_before_its_commit(tmp_path: Path) -> None:
    """The poller is woken when a response is in, not when its commit is done."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        await two_due(loop)
        slow = SlowCommits(loop)
        with patch.object(Recorder, "add", slow.add):
            notified = asyncio.create_task(loop.store.signals.wait("reconcile", TIMEOUT))
            await asyncio.sleep(0)
            await loop.poller.run_once()
            assert await notified
            slow.go.set()
            await ended(loop.poller)


async def test_unrecorded_results_are_bounded(tmp_path: Path) -> None:
    """While nothing can be recorded, at most a few times the concurrency is polled."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        for number in range(TASKS_PER_POLL_SLOT + 2):
            await loop.submitted()
            loop.upstream.set_fact(f"up{number + 1}")
        loop.clock.move(HOUR)
        slow = SlowCommits(loop)
        with patch.object(Recorder, "add", slow.add):
            for _ in range(TASKS_PER_POLL_SLOT):
                assert await loop.poller.run_once() == 1
                async with asyncio.timeout(TIMEOUT):
                    await slow.waiting.acquire()
            assert await loop.poller.run_once() == 0
            slow.go.set()
            await ended(loop.poller)


# ── while the upstream asks for a pause ──────────────────────────────────────


async def paused(loop: Loop) -> None:
    """Make the provider ask for a pause of an hour."""
    loop.upstream.fetches.append(Throttled("too many requests", retry_after=HOUR))
    with pytest.raises(Throttled):
        await loop.rate_limited.fetch(UpstreamId("another"))


async def test_polls_are_deferred_to_the_end_of_a_pause(tmp_path: Path) -> None:
    """Nothing is polled during the pause, and each task is updated once for it."""
    async with open_loop(tmp_path, rate=1000) as loop:
        task = await loop.submitted()
        await paused(loop)
        loop.clock.move(MINUTE)
        assert [await loop.poll_due() for _ in range(2)] == [1, 0]
        after = await loop.task(task.id)
        assert (len(loop.upstream.polled), after.polls, after.leased_until) == (1, 0, None)
        assert after.due_at
        assert HOUR - MINUTE < after.due_at - loop.clock.now() <= HOUR
        assert await loop.happened(task.id, "poll") == []  # nothing was asked


async def test_tasks_expire_during_a_pause(tmp_path: Path) -> None:
    """Queued and running tasks expire at their deadlines, though nothing is polled."""
    async with open_loop(tmp_path, rate=1000) as loop:
        running, queued = await loop.submitted(), await loop.accept()
        await paused(loop)
        loop.clock.at = running.deadline_at
        await loop.poll_due()
        assert [(await loop.task(one.id)).status for one in (running, queued)] == [Status.EXPIRED] * 2
        loop.clock.move(HOUR)
        assert [await loop.poll_due() for _ in range(2)] == [1, 0]  # expired tasks are deferred as well


async def test_doubt_ends_during_a_pause(tmp_path: Path) -> None:
    """A lost reply past its time is given a result: no poll is needed for that."""
    async with open_loop(tmp_path, rate=1000) as loop:
        task = await loop.in_doubt()
        await paused(loop)
        loop.clock.at = task.created_at + IN_DOUBT_FOR
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.FAILED


@pytest.mark.parametrize("rate", [None, 1000])
async def test_throttled_task_is_due_at_its_deadline_at_the_latest(tmp_path: Path, rate: float | None) -> None:
    """A pause that ends after the deadline defers the poll to the deadline, at which the task expires."""
    async with open_loop(tmp_path, rate=rate) as loop:
        task = await loop.submitted()
        loop.clock.at = task.deadline_at - HOUR // 2
        loop.upstream.fetches.append(Throttled("too many requests", retry_after=HOUR))
        assert await loop.poll_due() == 1
        assert (await loop.task(task.id)).due_at == task.deadline_at
        loop.clock.at = task.deadline_at
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.EXPIRED
