"""Handlers for tests of dispatch: one that answers at once, one that never does."""

import asyncio

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
