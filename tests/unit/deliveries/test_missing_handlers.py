"""Deliveries that wait for a handler which is not loaded are logged once each."""

import pytest
import structlog

from service.deliveries.handler_api import Event, Tools
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.domain.errors import StoreUnavailable
from tests.support.delivery_builders import InMemoryDeliveryQueue, handler


async def accept(event: Event, tools: Tools) -> None:
    """Accept any event."""


async def check(monitor: MissingHandlerMonitor) -> list[str]:
    """Check once, and return the handlers that a warning names."""
    with structlog.testing.capture_logs() as lines:
        await monitor.check()
    assert all(line["log_level"] == "warning" and line["hint"] for line in lines)
    return [line["handler"] for line in lines]


async def test_missing_handlers_are_logged_once() -> None:
    """A handler loaded under any of its names is not missing; one that is missing again later is logged again."""
    queue = InMemoryDeliveryQueue()
    queue.put("log")
    queue.put("paper")
    monitor = MissingHandlerMonitor(queue, [handler("log", accept), handler("letter", accept, aliases=("paper",))])
    assert await check(monitor) == []
    lost = queue.put("pigeon")
    queue.put("owl")
    assert await check(monitor) == ["owl", "pigeon"]
    assert await check(monitor) == []
    queue.rows[lost].status = "dead"
    assert await monitor.check() == {"owl"}
    queue.rows[lost].status = "pending"
    assert await check(monitor) == ["pigeon"]


async def test_failed_check_loses_nothing() -> None:
    """What could not be read is read by the next check."""
    queue = InMemoryDeliveryQueue()
    queue.put("pigeon")
    monitor = MissingHandlerMonitor(queue, [])
    queue.broken = StoreUnavailable("locked")
    with pytest.raises(StoreUnavailable):
        await monitor.check()
    queue.broken = None
    assert await check(monitor) == ["pigeon"]
