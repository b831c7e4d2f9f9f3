"""Deliveries that wait for a handler which is not loaded are logged once each."""

import pytest
import structlog

from service.deliveries.handler_api import Event, Tools
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.domain.errors import StoreUnavailable
from tests.support.delivery_builders import InMemoryDeliveryQueue, handler


async def taken(event: Event, tools: Tools) -> None:
    """Take any event."""


async def check(orphans: MissingHandlerMonitor) -> list[str]:
    """Look once, and return the handlers that a warning names."""
    with structlog.testing.capture_logs() as lines:
        await orphans.check()
    assert all(line["log_level"] == "warning" and line["hint"] for line in lines)
    return [line["handler"] for line in lines]


async def test_missing_handlers_are_logged_once() -> None:
    """A handler loaded under any of its names is not missing; one that is missing again later is logged again."""
    queue = InMemoryDeliveryQueue()
    queue.put("log")
    queue.put("paper")
    orphans = MissingHandlerMonitor(queue, [handler("log", taken), handler("mail", taken, aliases=("paper",))])
    assert await check(orphans) == []
    lost = queue.put("pigeon")
    queue.put("owl")
    assert await check(orphans) == ["owl", "pigeon"]
    assert await check(orphans) == []
    queue.rows[lost].status = "dead"
    assert await orphans.check() == {"owl"}
    queue.rows[lost].status = "pending"
    assert await check(orphans) == ["pigeon"]


async def test_failed_check_loses_nothing() -> None:
    """What could not be read is read by the next check."""
    queue = InMemoryDeliveryQueue()
    queue.put("pigeon")
    orphans = MissingHandlerMonitor(queue, [])
    queue.broken = StoreUnavailable("locked")
    with pytest.raises(StoreUnavailable):
        await orphans.check()
    queue.broken = None
    assert await check(orphans) == ["pigeon"]
