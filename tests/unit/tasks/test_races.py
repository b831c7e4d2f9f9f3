"""Races: a callback and a refusal, a sweep and a reply, an older submission and a newer one."""

import asyncio
from datetime import datetime
from pathlib import Path

import anyio
import pytest

from service.domain.errors import NotSent, ReplyLost
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, Status, Task, TaskError
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import IN_DOUBT_FOR, LEASE, SECOND, TIMEOUT, Loop, open_environment, open_loop
from tests.support.wait_until_idle import ended


async def test_callback_proves_that_a_submission_was_sent(tmp_path: Path) -> None:
    """The client reports that nothing was sent, though a callback came: the task is in doubt and not sent again."""
    async with open_loop(tmp_path) as loop:

        async def speak(_order: ProviderRequest, upstream_id: str) -> None:
            await loop.call_back(vtrix_body("in_progress", upstream_id))
            raise NotSent("HTTP 500, 500: try later")

        loop.upstream.before_reply = speak
        task = await loop.submitted()
        assert task.status is Status.IN_DOUBT
        loop.upstream.before_reply = None
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR)
        assert loop.upstream.charges[task.id] == 1
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_reply_after_a_callback_keeps_its_hint(tmp_path: Path) -> None:
    """The callback about the end comes before the reply to the submission: the task is polled within a second."""
    async with open_loop(tmp_path) as loop:

        async def speak(_order: ProviderRequest, upstream_id: str) -> None:
            await loop.call_back(vtrix_body("completed", upstream_id))

        loop.upstream.before_reply = speak
        task = await loop.submitted()
        assert (task.status, task.hinted_at) == (Status.IN_PROGRESS, loop.clock.now())
        loop.upstream.set_fact("up1")
        loop.clock.move(SECOND)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED


async def test_late_not_sent_does_not_change_a_settled_task(tmp_path: Path) -> None:
    """A task that a callback settled stays settled when its submission reports that nothing was sent."""
    async with open_loop(tmp_path, confirm=False) as loop:

        async def speak(_order: ProviderRequest, upstream_id: str) -> None:
            await loop.call_back(vtrix_body("completed", upstream_id))
            raise NotSent("HTTP 500, 500: try later")

        loop.upstream.before_reply = speak
        task = await loop.submitted()
        assert (task.status, task.due_at, task.note, task.leased_until) == (Status.COMPLETED, None, None, None)


async def test_late_sweep_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that is queued again while the sweep runs stays queued."""
    async with open_environment(tmp_path) as environment:
        loop, other = environment.process(), environment.process()
        loop.upstream.creates.append(NotSent("refused"))
        loop.upstream.send_gate = asyncio.Event()
        gate, seen = loop.upstream.send_gate, other.store.tasks.sweep

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


async def test_lost_claim_does_not_send_with_the_next_lease(tmp_path: Path) -> None:
    """A process that claims a task again while its earlier claim waits to be sent submits it once."""
    async with open_environment(tmp_path, resubmit_in_doubt=True) as environment:
        sleeper, other = environment.process(), environment.process()
        environment.upstream.send_gate = asyncio.Event()
        task = await sleeper.accept()
        await sleeper.submitter.run_once()
        async with asyncio.timeout(TIMEOUT):
            await environment.upstream.arrived.wait()
        environment.clock.move(LEASE + SECOND)
        await other.submitter.sweep()
        environment.clock.move(IN_DOUBT_FOR - LEASE)
        await other.poll_due()
        environment.upstream.arrived.clear()
        assert await sleeper.submitter.run_once() == 1
        async with asyncio.timeout(TIMEOUT):
            await environment.upstream.arrived.wait()
        environment.upstream.reply_gate = asyncio.Event()
        environment.upstream.send_gate.set()
        await anyio.wait_all_tasks_blocked()
        environment.upstream.reply_gate.set()
        await ended(sleeper.submitter)
        after = await other.task(task.id)
        assert (after.status, after.submission) == (Status.IN_PROGRESS, 2)
        assert environment.upstream.charges == {task.id: 1}


async def _submitted_twice(loop: Loop) -> Task:
    """Return a task whose two submissions got no reply."""
    loop.upstream.creates.extend([ReplyLost("gone"), ReplyLost("gone")])
    task = await loop.submitted()
    loop.clock.move(IN_DOUBT_FOR)
    await loop.poll_due()
    await loop.submit_due()
    return task


async def test_failure_of_an_older_submission_is_ignored(tmp_path: Path) -> None:
    """A late callback reports the failure of the first submission, while the reply of the second is lost."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        task = await _submitted_twice(loop)
        assert (await loop.task(task.id)).submission == 2
        loop.upstream.set_fact("up1", Fact(status=Status.FAILED, error=TaskError(code="x", message="y")))
        await loop.call_back(vtrix_body("failed", "up1"), request=0)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        loop.upstream.set_fact("up2")
        await loop.call_back(vtrix_body("completed", "up2"), request=1)
        loop.clock.move(SECOND)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED


async def test_failure_of_an_older_submission_is_ignored_by_polls(tmp_path: Path) -> None:
    """A callback named the first submission while it ran; that it failed says nothing about the second one."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        task = await _submitted_twice(loop)
        await loop.call_back(vtrix_body("in_progress", "up1"), request=0)
        loop.upstream.set_fact("up1", Fact(status=Status.FAILED, error=TaskError(code="x", message="y")))
        loop.upstream.echo_payload("up1", loop.upstream.requests[0].payload)
        loop.clock.move(SECOND)
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.hinted_id, after.status, after.error) == ("up1", Status.IN_DOUBT, None)


async def test_nothing_is_sent_after_the_lease_was_lost(tmp_path: Path) -> None:
    """A process that was suspended past its lease sends nothing: the task is in doubt already."""
    async with open_environment(tmp_path) as environment:
        sleeper, other = environment.process(), environment.process()
        environment.upstream.send_gate = asyncio.Event()
        task = await sleeper.accept()
        await sleeper.submitter.run_once()
        async with asyncio.timeout(TIMEOUT):
            await environment.upstream.arrived.wait()
        environment.clock.move(IN_DOUBT_FOR)
        await other.submitter.sweep()
        await other.poll_due()
        assert (await other.task(task.id)).status is Status.FAILED
        environment.upstream.send_gate.set()
        await ended(sleeper.submitter)
        assert environment.upstream.charges[task.id] == 0
