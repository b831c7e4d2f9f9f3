"""A task that is past its deadline expires at once, however busy the rounds are."""

import asyncio
from pathlib import Path

from service.domain.task import Status
from tests.support.task_loop import DEADLINE, PATIENCE, a_loop


async def test_rounds_that_never_pause_let_a_task_expire(tmp_path: Path) -> None:
    """While questions are claimed without a pause, an overdue task is claimed once: its end comes with its lease."""
    async with a_loop(tmp_path) as loop:
        task = await loop.accept()
        loop.clock.move(DEADLINE)
        async with asyncio.timeout(PATIENCE):
            while (await loop.task(task.id)).status is not Status.EXPIRED:
                await loop.poller.run_once()
        after = await loop.task(task.id)
        assert (after.fence, after.leased_until, after.due_at) == (1, None, None)
