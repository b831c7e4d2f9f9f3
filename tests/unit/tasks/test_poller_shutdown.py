"""Reconcile comes to its stop whatever the database does."""

from pathlib import Path
from unittest.mock import AsyncMock, patch

from service.domain.errors import StoreUnavailable
from tests.support.task_loop import a_loop


async def test_stop_ends_although_the_store_takes_no_leases_back(tmp_path: Path) -> None:
    """A stop while the database is busy ends without an error; the leases run out by themselves."""
    async with a_loop(tmp_path) as loop:
        release = AsyncMock(side_effect=StoreUnavailable("busy"))
        with patch.object(loop.store.tasks, "release", release):
            await loop.poller.drain(0.01)
        assert release.await_count == 1
