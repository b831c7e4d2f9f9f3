"""Handlers for tests of dispatch: one that answers at once, one that never does."""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import structlog

from service import dispatch
from service.handling import Event, Tools


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


@contextmanager
def outcomes_logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """Catch the log lines of dispatch, whatever logging was set up and cached before."""
    with structlog.testing.capture_logs() as lines, patch.object(dispatch, "log", structlog.get_logger()):
        yield lines
