"""The poller shuts down in any state of the database."""

import asyncio
from pathlib import Path
from unittest.mock import AsyncMock, patch

from service.domain.errors import StoreUnavailable
from service.domain.task import Status
from tests.support.task_loop import MINUTE, TIMEOUT, open_loop


async def test_shutdown_succeeds_if_leases_cannot_be_released(tmp_path: Path) -> None:
    """A shutdown while the database is busy ends without an error; the leases expire."""
    async with open_loop(tmp_path) as loop:
        release = AsyncMock(side_effect=StoreUnavailable("busy"))
        with patch.object(loop.store.tasks, "release", release):
            await loop.poller.drain(0.01)
        assert release.await_count == 1


async def test_a_released_poll_may_be_claimed_at_once(tmp_path: Path) -> None:
    """A poll that is ended is due again, its slot is free, and the next claim takes it."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        task = await loop.submitted()
        loop.upstream.poll_gate = asyncio.Event()
        loop.clock.move(MINUTE)
        assert await loop.poller.run_once() == 1
        async with asyncio.timeout(TIMEOUT):
            await loop.upstream.arrived.wait()
        assert loop.poller.task_ids() == {task.id}
        await loop.poller.release_running()
        assert (loop.poller.task_ids(), (await loop.task(task.id)).leased_until) == (set(), None)
        loop.upstream.poll_gate = None
        loop.upstream.set_fact("up1")
        assert await loop.poll_due() == 1
        assert (await loop.task(task.id)).status is Status.COMPLETED


async def test_a_poll_that_is_ended_before_it_began_frees_its_slot(tmp_path: Path) -> None:
    """Capacity is not lost with a poll that has not made its first step."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        await loop.submitted()
        loop.clock.move(MINUTE)
        await loop.poller.run_once()
        await loop.poller.release_running()
        assert await loop.poll_due() == 1
