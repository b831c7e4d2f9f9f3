"""Deliveries that wait for a handler which is not loaded are told of, once each."""

import pytest
import structlog

from service.deliveries.handler_api import Event, Tools
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.domain.errors import StoreUnavailable
from tests.support.delivery_builders import Queue, handler


async def taken(event: Event, tools: Tools) -> None:
    """Take any event."""


async def check(orphans: MissingHandlerMonitor) -> list[str]:
    """Look once, and return the handlers that a warning names."""
    with structlog.testing.capture_logs() as lines:
        await orphans.check()
    assert all(line["log_level"] == "warning" and line["hint"] for line in lines)
    return [line["handler"] for line in lines]


async def test_handlers_that_are_missing_are_told_once() -> None:
    """A loaded one by any of its names is not missing; one whose deliveries are gone and come again is told again."""
    queue = Queue()
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


async def test_a_look_that_failed_forgets_nothing() -> None:
    """What could not be read is read by the next look."""
    queue = Queue()
    queue.put("pigeon")
    orphans = MissingHandlerMonitor(queue, [])
    queue.broken = StoreUnavailable("locked")
    with pytest.raises(StoreUnavailable):
        await orphans.check()
    queue.broken = None
    assert await check(orphans) == ["pigeon"]
