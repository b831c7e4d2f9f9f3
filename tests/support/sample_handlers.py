"""Handlers for tests of dispatch: one that answers at once, one that never does, one that is deaf."""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import structlog

from service.deliveries import dispatcher as dispatch
from service.deliveries import running_delivery as delivery_in_hand
from service.deliveries.handler_api import Event, Tools


class BlackHole:
    """A handler that never answers, and counts who fell into it."""

    def __init__(self) -> None:
        self.entered = 0
        self.news = asyncio.Event()

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Wait for ever."""
        assert event.task.id
        assert tools.message_id
        self.entered += 1
        self.news.set()
        await asyncio.Event().wait()


class Guest:
    """A handler that answers at once, and remembers its events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Remember the event."""
        assert tools.message_id
        self.events.append(event)


class Deaf:
    """A handler that takes no notice of being cancelled, until it may end."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Wait on."""
        assert event.task.id
        assert tools.message_id
        while not self.may_end.is_set():
            with suppress(asyncio.CancelledError):
                await self.may_end.wait()


@contextmanager
def a_deaf_one() -> Iterator[Deaf]:
    """Yield a deaf handler, which may end with the block at the latest: a test that fails hangs on none."""
    unresponsive = Deaf()
    try:
        yield unresponsive
    finally:
        unresponsive.may_end.set()


@contextmanager
def outcomes_logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """Catch the log lines of dispatch, whatever logging was set up and cached before."""
    fresh = structlog.get_logger()
    with (
        structlog.testing.capture_logs() as lines,
        patch.object(dispatch, "log", fresh),
        patch.object(delivery_in_hand, "log", fresh),
    ):
        yield lines
