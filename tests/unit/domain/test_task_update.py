"""A warning that is stored alone."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from service.domain.apply_update import EAGER_POLLS, MIN_POLL_GAP
from service.domain.task import Status
from service.domain.task_update import RESUBMITTED_WARNING, TaskUpdate
from service.tasks.poller import SECOND_WAIT_NOTE
from tests.support.scripted_provider import vtrix_body
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


@pytest.mark.parametrize(("polls", "pause"), [(EAGER_POLLS - 1, timedelta(0)), (EAGER_POLLS, MIN_POLL_GAP)])
async def test_callbacks_without_end_cause_one_poll_a_second(tmp_path: Path, polls: int, pause: timedelta) -> None:
    """A callback that reports an end makes a poll due at once; after many polls not sooner than after a pause."""
    async with open_loop(tmp_path) as loop:
        task, now = await loop.submitted(), loop.clock.now()
        async with loop.units_of_work.transaction() as transaction:
            await transaction.save([replace(task, polls=polls, polled_at=now)])
        await loop.call_back(vtrix_body("completed"))
        assert (await loop.task(task.id)).due_at == now + pause
