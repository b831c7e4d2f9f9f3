"""Signals between the jobs of one process."""

import asyncio
from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

MAX_TOPICS = 4096


class LocalSignals:
    """Signals within one process.

    A notification between a query and the wait that follows it is not lost: `wait` returns at once if its topic was
    notified since the last wait of the same asyncio task for it. The first wait of a task may return for an old
    notification, which costs one query. Only the newest MAX_TOPICS topics are remembered.
    """

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._last_notified: OrderedDict[str, int] = OrderedDict()
        self._count = 0
        self._seen: WeakKeyDictionary[asyncio.Task[Any], dict[str, int]] = WeakKeyDictionary()

    def notify(self, *topics: str) -> None:
        """Wake every wait for any of `topics` in this process."""
        for topic in topics:
            self._count += 1
            self._last_notified[topic] = self._count
            self._last_notified.move_to_end(topic)
            for waiter in self._waiters.get(topic, ()):
                waiter.set()
        while len(self._last_notified) > MAX_TOPICS:
            self._last_notified.popitem(last=False)

    async def wait(self, topic: str, seconds: float) -> bool:
        """Return True when `topic` is notified, False after `seconds`."""
        missed = self._last_notified.get(topic, 0) > self._seen_by_caller().get(topic, 0)
        notified = missed or await self._next_notification(topic, seconds)
        self._seen_by_caller()[topic] = self._count
        return notified

    def _seen_by_caller(self) -> dict[str, int]:
        current = asyncio.current_task()
        return {} if current is None else self._seen.setdefault(current, {})

    async def _next_notification(self, topic: str, seconds: float) -> bool:
        waiter = asyncio.Event()
        waiters = self._waiters.setdefault(topic, set())
        waiters.add(waiter)
        try:
            async with asyncio.timeout(max(seconds, 0)):
                return await waiter.wait()
        except TimeoutError:
            return False
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(topic) is waiters:
                del self._waiters[topic]
