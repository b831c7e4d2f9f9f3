"""A task that is completed without any result: results are awaited for a time, then the task says that it was paid."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.domain.errors import Conflict
from service.domain.result_wait import RESULT_WAIT
from service.domain.task import Fact, Status, TaskError
from service.domain.task_update import TaskUpdate
from tests.support.scripted_provider import DONE, VIDEO, vtrix_body
from tests.support.task_loop import DEADLINE, MINUTE, SECOND, Loop, open_loop

FILTERED = TaskError(code="Policy", message="the content was filtered")
EMPTY = Fact(status=Status.COMPLETED, error=FILTERED)
CONTENT = [{"content": [VIDEO]}]


async def poll_for(loop: Loop, minutes: float) -> None:
    """Poll for this long."""
    await loop.run_until(loop.clock.now() + minutes * MINUTE, by=10 * SECOND)


async def test_result_that_follows_the_status_is_taken(tmp_path: Path) -> None:
    """The task stays unfinished, with a note, until a poll shows the result; its end is reported once."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1", EMPTY)
        await poll_for(loop, 2)
        waiting = await loop.task(task.id)
        assert (waiting.status, waiting.settled_at, waiting.error) == (Status.IN_PROGRESS, None, None)
        assert waiting.note is not None
        assert "without any result (the content was filtered)" in waiting.note
        polled = len(loop.upstream.polled)
        loop.upstream.set_fact("up1")
        await poll_for(loop, 1)
        after = await loop.task(task.id)
        assert (after.status, after.output, after.warnings, after.note) == (Status.COMPLETED, (VIDEO,), (), None)
        assert len(loop.upstream.polled) > polled
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]


async def test_task_without_any_result_is_paid_without_result(tmp_path: Path) -> None:
    """After ten minutes it is completed, with the provider's reason and a warning, and is not polled any more."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1", EMPTY)
        await poll_for(loop, 9)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        await poll_for(loop, 3)
        after = await loop.task(task.id)
        assert (after.status, after.output, after.error, after.due_at) == (Status.COMPLETED, (), FILTERED, None)
        assert after.warnings == ("paid without result: the content was filtered",)
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]
        polled = len(loop.upstream.polled)
        await poll_for(loop, 30)
        assert len(loop.upstream.polled) == polled


async def test_reason_may_be_missing(tmp_path: Path) -> None:
    """Without a reason of the provider the task has a code of our own."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1", Fact(status=Status.COMPLETED))
        await poll_for(loop, 12)
        after = await loop.task(task.id)
        assert after.error is not None
        assert after.error.code == "no_result"
        assert after.warnings[0].startswith("paid without result: ")


async def test_create_reply_without_result_is_polled(tmp_path: Path) -> None:
    """A reply that reports an end without any result is no end: the word may be about the request."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(EMPTY)
        task = await loop.submitted()
        assert (task.status, task.upstream_id) == (Status.IN_PROGRESS, "up1")
        loop.upstream.set_fact("up1", Fact(status=Status.IN_PROGRESS))
        await poll_for(loop, 20)
        assert (await loop.task(task.id)).empty_since is None
        loop.upstream.set_fact("up1", EMPTY)
        await poll_for(loop, 9)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        loop.upstream.set_fact("up1")
        await poll_for(loop, 2)
        assert (await loop.task(task.id)).output == (VIDEO,)


async def test_failure_within_the_wait_is_final(tmp_path: Path) -> None:
    """The provider may still report a failure."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1", EMPTY)
        await poll_for(loop, 1)
        loop.upstream.set_fact("up1", Fact(status=Status.FAILED, error=FILTERED))
        await poll_for(loop, 1)
        assert (await loop.task(task.id)).status is Status.FAILED


@pytest.mark.parametrize("confirm", [True, False])
async def test_callback_with_the_result_wins(tmp_path: Path, confirm: bool) -> None:
    """A callback without any result is a hint with either CONFIRM; a later one with the result ends the wait."""
    async with open_loop(tmp_path, confirm=confirm) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1", EMPTY)
        await loop.call_back(vtrix_body("completed", output=[]))
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        await poll_for(loop, 2)
        assert (await loop.task(task.id)).empty_since is not None
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed", output=CONTENT))
        await poll_for(loop, 1)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.output) == (Status.COMPLETED, "callback", (VIDEO,))
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]


async def test_unconfirmed_callback_without_result_waits_as_well(tmp_path: Path) -> None:
    """In doubt, with our payload token and an id that no poll knows: it waits, and is not polled without pause."""
    async with open_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        loop.upstream.knows_ids = False
        payload = loop.upstream.requests[0].payload
        await loop.call_back(vtrix_body("completed", None, output=[], payload=payload))
        for _ in range(5):
            await loop.poll_due()
        waiting = await loop.task(task.id)
        assert (waiting.status, waiting.due_at) == (Status.IN_DOUBT, loop.clock.now() + RESULT_WAIT)
        await poll_for(loop, 11)
        after = await loop.task(task.id)
        assert (after.status, after.unconfirmed, after.output) == (Status.COMPLETED, True, ())
        assert after.warnings[0].startswith("paid without result: ")


async def test_expired_task_keeps_waiting(tmp_path: Path) -> None:
    """A deadline within the wait expires the task; a result that follows still overrules it."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.run_until(task.deadline_at - 2 * MINUTE, by=5 * MINUTE)
        loop.upstream.set_fact("up1", EMPTY)
        await poll_for(loop, 3)
        assert (await loop.task(task.id)).status is Status.EXPIRED
        loop.upstream.set_fact("up1")
        await loop.run_until(loop.clock.now() + DEADLINE, by=MINUTE)
        assert (await loop.task(task.id)).output == (VIDEO,)


async def test_clock_that_moves_backwards_does_not_extend_the_wait(tmp_path: Path) -> None:
    """The wait is at most ten minutes of the clock as it is now."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1", EMPTY)
        await poll_for(loop, 2)
        loop.clock.move(-60 * MINUTE)
        waiting = await loop.task(task.id)
        await loop.recorder.add(TaskUpdate.poll_result(waiting, replace(EMPTY, upstream_id=waiting.upstream_id)))
        assert (await loop.task(task.id)).empty_since == loop.clock.now()


async def test_paid_task_without_result_can_be_resubmitted(tmp_path: Path) -> None:
    """A client may approve a second charge for it; a completed task with a result is refused."""
    async with open_loop(tmp_path) as loop:
        paid, good = await loop.submitted(), await loop.submitted()
        loop.upstream.set_fact("up1", EMPTY)
        loop.upstream.set_fact("up2", DONE)
        await poll_for(loop, 12)
        again = await loop.task_service.resubmit(paid.id)
        assert (again.resubmission_of, again.warnings, again.status) == (paid.id, (), Status.QUEUED)
        with pytest.raises(Conflict, match="completed ones without any result"):
            await loop.task_service.resubmit(good.id)
