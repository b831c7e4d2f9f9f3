"""A warning that is stored alone."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from service.domain.task import Status
from service.domain.task_update import RESUBMITTED_WARNING, TaskUpdate
from service.tasks.poller import SECOND_WAIT_NOTE
from tests.support.task_loop import IN_DOUBT_FOR, MINUTE, open_loop


async def test_warning_alone_changes_nothing_else(tmp_path: Path) -> None:
    """A task in doubt in its second wait keeps its time and its note when a client resubmits it, and ends once."""
    async with open_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        loop.clock.move(IN_DOUBT_FOR + 2 * MINUTE)
        await loop.poll_due()
        before = await loop.task(task.id)
        assert (before.status, before.note) == (Status.IN_DOUBT, SECOND_WAIT_NOTE)
        await loop.task_service.resubmit(task.id)
        assert await loop.task(task.id) == replace(before, warnings=(RESUBMITTED_WARNING,))
        loop.clock.move(IN_DOUBT_FOR + timedelta(seconds=1))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.FAILED


async def test_warning_is_stored_once(tmp_path: Path) -> None:
    """The same warning a second time changes nothing."""
    async with open_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        for _ in range(2):
            await loop.recorder.add(TaskUpdate(task_id=task.id, warning="once"))
        assert (await loop.task(task.id)).warnings == ("once",)
