"""A task past its deadline expires at once, however busy the poller is."""

import asyncio
from pathlib import Path

from service.domain.task import Status
from tests.support.task_loop import DEADLINE, TIMEOUT, open_loop


async def test_task_expires_under_continuous_polling(tmp_path: Path) -> None:
    """An overdue task is claimed once: it expires in the commit that releases its lease."""
    async with open_loop(tmp_path) as loop:
        task = await loop.accept()
        loop.clock.move(DEADLINE)
        async with asyncio.timeout(TIMEOUT):
            while (await loop.task(task.id)).status is not Status.EXPIRED:
                await loop.poller.run_once()
        after = await loop.task(task.id)
        assert (after.fence, after.leased_until, after.due_at) == (1, None, None)
