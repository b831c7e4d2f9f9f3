"""The rounds begin once the database is ready, whatever came in between."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
import structlog
from structlog.testing import capture_logs

from service import main


async def test_a_database_that_cannot_be_looked_at_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is told once, by its class alone, and ends nothing."""
    monkeypatch.setattr(main, "LOOK_AGAIN", 0)
    ready = AsyncMock(side_effect=[PermissionError("secret"), PermissionError("secret"), None])
    parts = SimpleNamespace(store=SimpleNamespace(health=SimpleNamespace(ready=ready)))
    ticker = AsyncMock()
    with capture_logs() as lines:
        monkeypatch.setattr(main, "log", structlog.get_logger())
        await main._start_when_ready(cast("Any", parts), ticker)
    ticker.start.assert_awaited_once_with()
    assert [line["why"] for line in lines] == ["the database cannot be looked at: PermissionError"]
