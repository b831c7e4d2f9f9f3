"""Limits the bytes that large bodies hold in memory, first come, first served."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteSemaphore:
    """A semaphore that counts bytes: `total` bytes for all holders together.

    A body larger than `total` waits until nothing else is held, and is then held alone.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._queue: deque[tuple[int, asyncio.Event]] = deque()

    @asynccontextmanager
    async def hold(self, size: int, *, seconds: float | None = None) -> AsyncIterator[None]:
        """Hold `size` bytes for the block; raises TimeoutError if they are not free in `seconds` (None: never)."""
        size = min(size, self._total)
        async with asyncio.timeout(seconds):
            await self._acquire(size)
        try:
            yield
        finally:
            self._free += size
            self._grant()

    async def _acquire(self, size: int) -> None:
        granted = asyncio.Event()
        waiting = (size, granted)
        self._queue.append(waiting)
        self._grant()
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self._free += size
            else:
                self._queue.remove(waiting)
            self._grant()
            raise

    def _grant(self) -> None:
        while self._queue and self._queue[0][0] <= self._free:
            size, granted = self._queue.popleft()
            self._free -= size
            granted.set()
