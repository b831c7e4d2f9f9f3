"""The poller shuts down in any state of the database."""

from pathlib import Path
from unittest.mock import AsyncMock, patch

from service.domain.errors import StoreUnavailable
from tests.support.task_loop import open_loop


async def test_shutdown_succeeds_if_leases_cannot_be_released(tmp_path: Path) -> None:
    """A shutdown while the database is busy ends without an error; the leases expire."""
    async with open_loop(tmp_path) as loop:
        release = AsyncMock(side_effect=StoreUnavailable("busy"))
        with patch.object(loop.store.tasks, "release", release):
            await loop.poller.drain(0.01)
        assert release.await_count == 1
