"""A bound on the bytes that large bodies hold in memory, given out first come first served."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteSemaphore:
    """A semaphore by size: `total` bytes for all holders together.

    What alone is larger than the total is not refused: it is let through when nothing else is held, and alone.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._queue: deque[tuple[int, asyncio.Event]] = deque()

    @asynccontextmanager
    async def hold(self, size: int, *, seconds: float | None = None) -> AsyncIterator[None]:
        """Hold `size` bytes for the block; TimeoutError when they are not free within `seconds` (None: wait on)."""
        size = min(size, self._total)
        async with asyncio.timeout(seconds):
            await self._take(size)
        try:
            yield
        finally:
            self._give(size)

    async def _take(self, size: int) -> None:
        granted = asyncio.Event()
        turn = (size, granted)
        self._queue.append(turn)
        self._grant()
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self._free += size
            else:
                self._queue.remove(turn)
            self._grant()
            raise

    def _give(self, size: int) -> None:
        self._free += size
        self._grant()

    def _grant(self) -> None:
        while self._queue and self._queue[0][0] <= self._free:
            size, granted = self._queue.popleft()
            self._free -= size
            granted.set()
