"""Hints inside one process: waiters by topic, and a short memory of what rang while nobody was waiting."""

import asyncio
from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

MAX_TOPICS = 4096


class LocalSignals:
    """Signals within one process.

    What rings between a look and the wait that follows it is not lost: a wait returns at once when its topic has rung
    since the same coroutine's last wait for it. That may wake a first wait for something old, which costs one look.
    Only the newest topics are remembered.
    """

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._rung: OrderedDict[str, int] = OrderedDict()
        self._rings = 0
        self._seen: WeakKeyDictionary[asyncio.Task[Any], dict[str, int]] = WeakKeyDictionary()

    def notify(self, *topics: str) -> None:
        """Wake whoever waits for any of `topics` in this process."""
        for topic in topics:
            self._rings += 1
            self._rung[topic] = self._rings
            self._rung.move_to_end(topic)
            for waiter in self._waiters.get(topic, ()):
                waiter.set()
        while len(self._rung) > MAX_TOPICS:
            self._rung.popitem(last=False)

    async def wait(self, topic: str, seconds: float) -> bool:
        """Return True as soon as `topic` rings, False after `seconds`."""
        missed = self._rung.get(topic, 0) > self._last_seen().get(topic, 0)
        rang = missed or await self._ring_of(topic, seconds)
        self._last_seen()[topic] = self._rings
        return rang

    def _last_seen(self) -> dict[str, int]:
        current = asyncio.current_task()
        return {} if current is None else self._seen.setdefault(current, {})

    async def _ring_of(self, topic: str, seconds: float) -> bool:
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
