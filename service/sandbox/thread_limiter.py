"""Run blocking work in a limited number of threads, and wait until the last one ends."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ThreadLimiter:
    """Limit the number of simultaneous threads for blocking work."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._limit = limit

    async def run(self, work: Callable[[], T]) -> T:
        """Run the work in a thread. Its slot is free when the thread ends, even after the caller is cancelled."""
        await self._free.acquire()
        running = asyncio.ensure_future(asyncio.to_thread(work))
        running.add_done_callback(self._release)
        return await asyncio.shield(running)

    async def drain(self) -> None:
        """Wait until all threads end, and start no more."""
        for _ in range(self._limit):
            await self._free.acquire()

    def _release(self, done: asyncio.Future[T]) -> None:
        self._free.release()
        if not done.cancelled():
            done.exception()  # marks it as retrieved: a caller that still waits gets it, no other needs it
