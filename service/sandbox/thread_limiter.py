"""Run slow work in threads, a few at once, and know when the last one has ended."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ThreadLimiter:
    """Hold a number of places for work that would block the loop."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._limit = limit

    async def run(self, work: Callable[[], T]) -> T:
        """Run the work in a thread; its place is free only when the thread has ended, even when nobody waits."""
        await self._free.acquire()
        running = asyncio.ensure_future(asyncio.to_thread(work))
        running.add_done_callback(self._leave)
        return await asyncio.shield(running)

    async def drain(self) -> None:
        """Wait for the work in hand, and let no more begin."""
        for _ in range(self._limit):
            await self._free.acquire()

    def _leave(self, done: asyncio.Future[T]) -> None:
        self._free.release()
        if not done.cancelled():
            done.exception()  # whoever still waits gets it; nobody else needs to hear of it
