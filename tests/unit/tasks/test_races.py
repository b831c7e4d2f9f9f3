"""Histories in which words cross: a callback and a refusal, a sweep and a reply, an old submission and a new one."""

import asyncio
from datetime import datetime
from pathlib import Path

import anyio
import pytest

from service.domain.errors import NotSent, ReplyLost
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, Status, Task, TaskError
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import IN_DOUBT_FOR, LEASE, PATIENCE, SECOND, a_loop, a_world
from tests.support.wait_until_idle import ended


async def test_what_a_callback_spoke_of_did_leave(tmp_path: Path) -> None:
    """A reply says that nothing was done, though a callback came: the task is in doubt, and not sent again."""
    async with a_loop(tmp_path) as loop:

        async def speak(_order: ProviderRequest, upstream_id: str) -> None:
            await loop.call_back(vtrix_body("in_progress", upstream_id))
            raise NotSent("HTTP 500, 500: try later")

        loop.upstream.before_reply = speak
        task = await loop.submitted()
        assert task.status is Status.IN_DOUBT
        loop.upstream.before_reply = None
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR)
        assert loop.upstream.bills[task.id] == 1
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_late_word_that_nothing_left_wakes_no_settled_task(tmp_path: Path) -> None:
    """A task that a believed callback settled is left as it is by a reply that says that nothing was done."""
    async with a_loop(tmp_path, confirm=False) as loop:

        async def speak(_order: ProviderRequest, upstream_id: str) -> None:
            await loop.call_back(vtrix_body("completed", upstream_id))
            raise NotSent("HTTP 500, 500: try later")

        loop.upstream.before_reply = speak
        task = await loop.submitted()
        assert (task.status, task.due_at, task.note, task.leased_until) == (Status.COMPLETED, None, None, None)


async def test_sweep_that_comes_late_doubts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that was queued again while the sweep looked at it stays queued."""
    async with a_world(tmp_path) as world:
        loop, other = world.process(), world.process()
        loop.upstream.creates.append(NotSent("refused"))
        loop.upstream.gate = asyncio.Event()
        gate, seen = loop.upstream.gate, other.store.tasks.sweep

        async def slow(*, now: datetime) -> list[Task]:
            found = await seen(now=now)
            gate.set()
            await ended(loop.submitter)
            return found

        task = await loop.accept()
        await loop.submitter.run_once()
        loop.clock.move(2 * LEASE)
        monkeypatch.setattr(other.store.tasks, "sweep", slow)
        assert await other.submitter.sweep() == 1
        assert (await loop.task(task.id)).status is Status.QUEUED


async def test_lost_claim_does_not_send_under_the_lease_of_the_next_one(tmp_path: Path) -> None:
    """A process that claims a task again, while its earlier claim still waits to leave, sends it once."""
    async with a_world(tmp_path, resubmit_in_doubt=True) as world:
        sleeper, other = world.process(), world.process()
        world.upstream.gate = asyncio.Event()
        task = await sleeper.accept()
        await sleeper.submitter.run_once()
        async with asyncio.timeout(PATIENCE):
            await world.upstream.arrived.wait()
        world.clock.move(LEASE + SECOND)
        await other.submitter.sweep()
        world.clock.move(IN_DOUBT_FOR - LEASE)
        await other.poll_due()
        world.upstream.arrived.clear()
        assert await sleeper.submitter.run_once() == 1
        async with asyncio.timeout(PATIENCE):
            await world.upstream.arrived.wait()
        world.upstream.line = asyncio.Event()
        world.upstream.gate.set()
        await anyio.wait_all_tasks_blocked()
        world.upstream.line.set()
        await ended(sleeper.submitter)
        after = await other.task(task.id)
        assert (after.status, after.submission) == (Status.IN_PROGRESS, 2)
        assert world.upstream.bills == {task.id: 1}


async def test_failure_of_an_older_submission_is_not_that_of_the_newer(tmp_path: Path) -> None:
    """A late callback tells how the first submission failed, while the second one's reply is lost as well."""
    async with a_loop(tmp_path, resubmit_in_doubt=True) as loop:
        loop.upstream.creates.extend([ReplyLost("gone"), ReplyLost("gone")])
        task = await loop.submitted()
        loop.clock.move(IN_DOUBT_FOR)
        await loop.poll_due()
        await loop.submit_due()
        assert (await loop.task(task.id)).submission == 2
        loop.upstream.tell("up1", Fact(status=Status.FAILED, error=TaskError(code="x", message="y")))
        await loop.call_back(vtrix_body("failed", "up1"), order=0)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        loop.upstream.tell("up2")
        await loop.call_back(vtrix_body("completed", "up2"), order=1)
        loop.clock.move(SECOND)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED


async def test_nothing_is_sent_whose_lease_is_lost(tmp_path: Path) -> None:
    """A process that slept past its lease, with a submission about to leave, sends nothing: it is in doubt already."""
    async with a_world(tmp_path) as world:
        sleeper, other = world.process(), world.process()
        world.upstream.gate = asyncio.Event()
        task = await sleeper.accept()
        await sleeper.submitter.run_once()
        async with asyncio.timeout(PATIENCE):
            await world.upstream.arrived.wait()
        world.clock.move(IN_DOUBT_FOR)
        await other.submitter.sweep()
        await other.poll_due()
        assert (await other.task(task.id)).status is Status.FAILED
        world.upstream.gate.set()
        await ended(sleeper.submitter)
        assert world.upstream.bills[task.id] == 0
