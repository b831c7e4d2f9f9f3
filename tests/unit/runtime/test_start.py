"""The rounds begin once the database is ready, whatever came in between."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import pytest
import structlog
from structlog.testing import capture_logs

from service.runtime import process as main
from service.runtime.bootstrap import Application


def _parts(ready: AsyncMock) -> Application:
    """Return a service of which only the database's health answers."""
    return cast(
        "Application",
        SimpleNamespace(
            store=SimpleNamespace(health=SimpleNamespace(ready=ready)),
            worker=SimpleNamespace(drain=AsyncMock()),
            receiver=SimpleNamespace(flush=AsyncMock()),
        ),
    )


async def test_a_database_that_cannot_be_looked_at_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is told once, by its class alone, and ends nothing."""
    monkeypatch.setattr(main, "LOOK_AGAIN", 0)
    ready = AsyncMock(side_effect=[PermissionError("secret"), PermissionError("secret"), None])
    ticker = AsyncMock()
    with capture_logs() as lines:
        monkeypatch.setattr(main, "log", structlog.get_logger())
        await main._start_when_ready(_parts(ready), ticker, asyncio.Event())
    ticker.start.assert_awaited_once_with()
    assert [line["why"] for line in lines] == ["the database cannot be looked at: PermissionError"]


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()])
async def test_a_start_that_breaks_off_is_told(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose rounds never begin says so, in its log and to whoever asks whether it is ready."""
    parts = _parts(AsyncMock(return_value=None))
    ticker = SimpleNamespace(start=AsyncMock(side_effect=error), stop=AsyncMock(), failure_reason=lambda: None)
    with capture_logs() as lines:
        monkeypatch.setattr(main, "log", structlog.get_logger())
        async with main._running_jobs(parts, cast("Any", ticker), asyncio.Event()) as failure_reason:
            assert failure_reason() is None
            for _ in range(5):
                await asyncio.sleep(0)
            assert failure_reason() == "the start of the rounds has ended unforeseen; restart the process"
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("error", "the start of the rounds has ended unforeseen; restart the process")
    ]


async def test_a_start_that_a_stop_cuts_short_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops a process whose database was never ready reads of no error."""
    parts = _parts(AsyncMock(return_value="run `boomerang migrate`"))
    ticker = SimpleNamespace(stop=AsyncMock(), failure_reason=lambda: "the rounds have not begun yet")
    with capture_logs() as lines:
        monkeypatch.setattr(main, "log", structlog.get_logger())
        async with main._running_jobs(parts, cast("Any", ticker), asyncio.Event()) as failure_reason:
            await asyncio.sleep(0)
            assert failure_reason() == "the rounds have not begun yet"
    assert [line["log_level"] for line in lines] == ["warning"]


def test_who_asks_whether_it_is_ready_hears_what_keeps_it_from_working() -> None:
    """What the work says of itself reaches the probes, and so does the stop."""
    stopping = asyncio.Event()
    services = main._services(MagicMock(), stopping, lambda: "no clock")
    assert (services.failure_reason(), services.stopping()) == ("no clock", False)
    stopping.set()
    assert services.stopping()
