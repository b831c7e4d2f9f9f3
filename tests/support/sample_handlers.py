"""Sample handlers: one that returns at once, one that never does, one that ignores cancellation."""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import structlog

from service.deliveries import dispatcher, running_delivery
from service.deliveries.handler_api import Event, Tools


class HangingHandler:
    """A handler that never returns, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.started = asyncio.Event()

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Wait forever."""
        assert event.task.id
        assert tools.message_id
        self.calls += 1
        self.started.set()
        await asyncio.Event().wait()


class RecordingHandler:
    """A handler that returns at once, and records its events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Record the event."""
        assert tools.message_id
        self.events.append(event)


class UnresponsiveHandler:
    """A handler that ignores cancellation until `may_end` is set."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Wait for `may_end`."""
        assert event.task.id
        assert tools.message_id
        while not self.may_end.is_set():
            with suppress(asyncio.CancelledError):
                await self.may_end.wait()


@contextmanager
def unresponsive_handler() -> Iterator[UnresponsiveHandler]:
    """Yield an unresponsive handler, which ends with the block at the latest, so that a failed test does not hang."""
    unresponsive = UnresponsiveHandler()
    try:
        yield unresponsive
    finally:
        unresponsive.may_end.set()


@contextmanager
def captured_logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """Capture the log lines of the dispatcher, independent of the logging that was configured and cached before."""
    fresh = structlog.get_logger()
    with (
        structlog.testing.capture_logs() as lines,
        patch.object(dispatcher, "log", fresh),
        patch.object(running_delivery, "log", fresh),
    ):
        yield lines
