"""How many questions are on their way at once, and what commits and pauses keep waiting."""

import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest

from service.domain.errors import Throttled
from service.domain.task import Status, UpstreamId
from service.domain.task_update import TaskUpdate, UpdateResult
from service.tasks.poller import TASKS_PER_POLL_SLOT
from service.tasks.recorder import Recorder
from tests.support.task_loop import HOUR, IN_DOUBT_FOR, MINUTE, PATIENCE, Loop, a_loop
from tests.support.wait_until_idle import ended


async def two_due(loop: Loop) -> None:
    """Let two tasks be done at the upstream, and be due to be asked about."""
    for number in (1, 2):
        await loop.submitted()
        loop.upstream.tell(f"up{number}")
    loop.clock.move(HOUR)


class SlowCommits:
    """A record whose commits wait until they are let go; `waiting` counts them."""

    def __init__(self, loop: Loop) -> None:
        self._add = loop.recorder.add
        self.go = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)

    async def add(self, entry: TaskUpdate) -> UpdateResult:
        """Wait, then record."""
        self.waiting.release()
        await self.go.wait()
        return await self._add(entry)


async def test_the_next_is_asked_about_while_an_answer_waits_for_its_commit(tmp_path: Path) -> None:
    """A slow commit holds up its own answer, and no question; both answers are recorded in the end."""
    async with a_loop(tmp_path, concurrency=1) as loop:
        await two_due(loop)
        slow = SlowCommits(loop)
        with patch.object(Recorder, "add", slow.add):
            for _ in range(2):
                assert await loop.poller.run_once() == 1
                async with asyncio.timeout(PATIENCE):
                    await slow.waiting.acquire()
            slow.go.set()
            await ended(loop.poller)
        assert loop.poller.outcomes == {"completed": 2}


async def test_no_more_is_asked_at_once_than_is_allowed(tmp_path: Path) -> None:
    """While a question is on its way at a concurrency of one, the next task stays free for others."""
    async with a_loop(tmp_path, concurrency=1) as loop:
        await two_due(loop)
        loop.upstream.fetch_line = asyncio.Event()
        assert [await loop.poller.run_once() for _ in range(TASKS_PER_POLL_SLOT)] == [1, 0, 0, 0]
        loop.upstream.fetch_line.set()
        await ended(loop.poller)
        assert await loop.poll_due() == 1


async def test_a_free_place_rings_before_the_answer_is_recorded(tmp_path: Path) -> None:
    """Whoever waits to ask is rung when an answer is in, not when its commit is through."""
    async with a_loop(tmp_path, concurrency=1) as loop:
        await two_due(loop)
        slow = SlowCommits(loop)
        with patch.object(Recorder, "add", slow.add):
            ring = asyncio.create_task(loop.store.signals.wait("reconcile", PATIENCE))
            await asyncio.sleep(0)
            await loop.poller.run_once()
            assert await ring
            slow.go.set()
            await ended(loop.poller)


async def test_answers_that_wait_for_their_commits_have_an_end(tmp_path: Path) -> None:
    """When nothing can be recorded, no more is asked than a few times the concurrency."""
    async with a_loop(tmp_path, concurrency=1) as loop:
        for number in range(TASKS_PER_POLL_SLOT + 2):
            await loop.submitted()
            loop.upstream.tell(f"up{number + 1}")
        loop.clock.move(HOUR)
        slow = SlowCommits(loop)
        with patch.object(Recorder, "add", slow.add):
            for _ in range(TASKS_PER_POLL_SLOT):
                assert await loop.poller.run_once() == 1
                async with asyncio.timeout(PATIENCE):
                    await slow.waiting.acquire()
            assert await loop.poller.run_once() == 0
            slow.go.set()
            await ended(loop.poller)


# ── while the upstream asks for a pause ──────────────────────────────────────


async def paused(loop: Loop) -> None:
    """Let the upstream ask for a pause of an hour."""
    loop.upstream.fetches.append(Throttled("slow down", retry_after=HOUR))
    with pytest.raises(Throttled):
        await loop.paced.fetch(UpstreamId("another"))


async def test_questions_are_put_off_to_the_end_of_a_pause(tmp_path: Path) -> None:
    """Nothing is asked in it, nothing is held up by it, and each task is touched once for it."""
    async with a_loop(tmp_path, rate=1000) as loop:
        task = await loop.submitted()
        await paused(loop)
        loop.clock.move(MINUTE)
        assert [await loop.poll_due() for _ in range(2)] == [1, 0]
        after = await loop.task(task.id)
        assert (len(loop.upstream.asked), after.polls, after.leased_until) == (1, 0, None)
        assert after.due_at
        assert HOUR - MINUTE < after.due_at - loop.clock.now() <= HOUR
        assert await loop.happened(task.id, "poll") == []  # nothing was asked


async def test_a_pause_lets_expire_what_expires(tmp_path: Path) -> None:
    """Deadlines are kept, of queued tasks and of running ones, though nobody can be asked."""
    async with a_loop(tmp_path, rate=1000) as loop:
        running, queued = await loop.submitted(), await loop.accept()
        await paused(loop)
        loop.clock.at = running.deadline_at
        await loop.poll_due()
        assert [(await loop.task(one.id)).status for one in (running, queued)] == [Status.EXPIRED] * 2
        loop.clock.move(HOUR)
        assert [await loop.poll_due() for _ in range(2)] == [1, 0]  # what has expired is put off as well


async def test_a_pause_keeps_no_doubt_waiting(tmp_path: Path) -> None:
    """A lost reply whose time is over is given up: for that nobody has to be asked."""
    async with a_loop(tmp_path, rate=1000) as loop:
        task = await loop.in_doubt()
        await paused(loop)
        loop.clock.at = task.created_at + IN_DOUBT_FOR
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.FAILED
