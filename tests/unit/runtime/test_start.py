"""The jobs start when the database is ready, whatever errors occur before."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import pytest
import structlog
from structlog.testing import capture_logs

from service.api.app import WebLimits
from service.runtime import process, web
from service.runtime.application import Application


def _application(ready: AsyncMock) -> Application:
    """Return an application of which only the health of the database works."""
    return cast(
        "Application",
        SimpleNamespace(
            store=SimpleNamespace(health=SimpleNamespace(ready=ready)),
            worker=SimpleNamespace(drain=AsyncMock()),
            receiver=SimpleNamespace(flush=AsyncMock()),
            keys=SimpleNamespace(renew=AsyncMock(), remove=AsyncMock()),
        ),
    )


async def test_failed_database_check_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is logged once, by its class alone, and the check is repeated."""
    monkeypatch.setattr(process, "READY_CHECK_INTERVAL", 0)
    ready = AsyncMock(side_effect=[PermissionError("secret"), PermissionError("secret"), None])
    scheduler = AsyncMock()
    with capture_logs() as lines:
        monkeypatch.setattr(process, "log", structlog.get_logger())
        await process._start_when_ready(_application(ready), scheduler, asyncio.Event())
    scheduler.start.assert_awaited_once_with()
    assert [line["reason"] for line in lines] == ["the database check failed: PermissionError"]


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()])
async def test_failed_start_is_logged(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose jobs never start logs an error and reports it as its failure reason."""
    application = _application(AsyncMock(return_value=None))
    scheduler = SimpleNamespace(start=AsyncMock(side_effect=error), stop=AsyncMock(), failure_reason=lambda: None)
    with capture_logs() as lines:
        monkeypatch.setattr(process, "log", structlog.get_logger())
        async with process._running_jobs(application, cast("Any", scheduler), asyncio.Event()) as failure_reason:
            assert failure_reason() is None
            for _ in range(5):
                await asyncio.sleep(0)
            assert failure_reason() == "the start of the jobs failed unexpectedly, restart the process"
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("error", "the start of the jobs failed unexpectedly, restart the process")
    ]


@pytest.mark.parametrize("first", ["database", "port"])
async def test_ready_is_logged_once_for_jobs_and_port(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line comes when both are there, whichever is first: before that the process cannot do its work."""
    migrated, listening = asyncio.Event(), asyncio.Event()

    async def ready() -> None:
        await migrated.wait()

    application = _application(AsyncMock(side_effect=ready))
    scheduler = SimpleNamespace(start=AsyncMock(), stop=AsyncMock(), failure_reason=lambda: None)
    events = (migrated, listening) if first == "database" else (listening, migrated)
    seen = []
    with capture_logs() as lines:
        monkeypatch.setattr(process, "log", structlog.get_logger())
        jobs = process._running_jobs(application, cast("Any", scheduler), asyncio.Event(), listening=listening)
        async with jobs:
            for event in events:
                for _ in range(5):
                    await asyncio.sleep(0)
                seen.append(len(lines))
                event.set()
            for _ in range(5):
                await asyncio.sleep(0)
    assert (seen, [line["event"] for line in lines]) == ([0, 0], ["ready"])


async def test_stop_before_the_start_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stops before its database is ready logs no error."""
    application = _application(AsyncMock(return_value="run `boomerang migrate`"))
    scheduler = SimpleNamespace(stop=AsyncMock(), failure_reason=lambda: "the jobs have not started yet")
    with capture_logs() as lines:
        monkeypatch.setattr(process, "log", structlog.get_logger())
        async with process._running_jobs(application, cast("Any", scheduler), asyncio.Event()) as failure_reason:
            await asyncio.sleep(0)
            assert failure_reason() == "the jobs have not started yet"
    assert [line["log_level"] for line in lines] == ["warning"]


def test_probes_report_the_failure_reason_and_the_stop() -> None:
    """The failure reason and the stop reach the services of the probes."""
    stopping = asyncio.Event()
    services = web.probe_services(MagicMock(), stopping, lambda: "no clock")
    assert (services.failure_reason(), services.stopping()) == ("no clock", False)
    stopping.set()
    assert services.stopping()


def test_dashboard_is_removed_by_its_setting() -> None:
    """With DASHBOARD=off there are no pages, and no links that sign in."""
    application = MagicMock()
    application.settings.dashboard = "off"
    probes = web.probe_services(application, asyncio.Event(), lambda: None)
    services = web.build_services(application, probes, WebLimits())
    assert services.logins is None
    assert web.build_dashboard(application, services) is None
