"""Callbacks of tasks that nothing changes any more, and the bound on what is stored of a task, over restarts."""

from datetime import timedelta
from pathlib import Path

import pytest

from service.callbacks import limits
from service.callbacks.limits import BurstDetector, TaskQuota
from service.domain.errors import UnreadableBody
from service.domain.task import Status, Task
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import IN_DOUBT_FOR, MINUTE, Loop, open_environment, open_loop


@pytest.fixture(params=[True, False], ids=["burst", "single"], autouse=True)
def burst(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Send the callbacks of each test in a burst, or one by one."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: request.param)
    return bool(request.param)


async def settle(loop: Loop) -> Task:
    """Return a task that a poll has settled."""
    task = await loop.submitted()
    loop.upstream.set_fact("up1")
    await loop.call_back(vtrix_body("completed"))
    await loop.inbox_worker.run_once()
    await loop.poll_due()
    assert (await loop.task(task.id)).final
    return task


async def test_callbacks_of_a_final_task_are_answered_and_not_stored(tmp_path: Path) -> None:
    """A repeat, another body and an unreadable one change nothing once the provider reported the end."""
    async with open_loop(tmp_path) as loop:
        task = await settle(loop)
        for number in range(3):
            await loop.call_back(vtrix_body("completed"))
            await loop.call_back(vtrix_body("failed", number=number))
        with pytest.raises(UnreadableBody):
            await loop.call_back(b"half")
        await loop.inbox_worker.run_once()
        assert await loop.callbacks() == {"accepted": 1}
        assert await loop.poll_due() == 0
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]


async def test_callback_of_a_task_that_failed_by_our_own_conclusion_is_stored(tmp_path: Path) -> None:
    """A task that failed as submission_unknown may still get its result: its callback is stored and settles it."""
    async with open_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        guessed = await loop.task(task.id)
        assert (guessed.status, guessed.final) == (Status.FAILED, False)
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.inbox_worker.run_once()
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert await loop.callbacks() == {"accepted": 1}


async def test_callback_of_an_expired_task_is_stored(tmp_path: Path) -> None:
    """A late result of an expired task is still accepted."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.run_until(task.deadline_at + MINUTE, by=5 * MINUTE)
        await loop.call_back(vtrix_body("completed"))
        await loop.inbox_worker.run_once()
        assert await loop.callbacks() == {"accepted": 1}


async def test_bound_per_task_survives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process counts what the inbox holds of a task, in callbacks and bytes, after its first few, here one."""
    async with open_environment(tmp_path) as environment:
        loop = environment.process()
        await loop.submitted()
        monkeypatch.setattr(limits, "UNCOUNTED", 1)
        for quota, stored in ((TaskQuota(max_callbacks=5), 6), (TaskQuota(max_bytes=1000), 9)):
            for _ in range(3):
                loop.receiver._quota = TaskQuota(max_callbacks=quota.max_callbacks, max_bytes=quota.max_bytes)
                for _ in range(4):
                    loop.clock.move(timedelta(seconds=1))
                    await loop.call_back(vtrix_body("in_progress", number=str(loop.clock.now()), pad="x" * 200))
                loop = environment.kill(loop)
            assert sum((await loop.callbacks()).values()) == stored
