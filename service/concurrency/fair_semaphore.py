"""Divides an amount between clients that wait for it in the event loop: bytes, threads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.concurrency.fair_queue import FairQueue, FairRequest


class FairSemaphore:
    """A semaphore that counts: `total` for all holders together, and no more for one client than is left for others.

    A request larger than `total` waits until nothing else is held, and is then held alone.
    """

    def __init__(self, total: int) -> None:
        self._queue = FairQueue(total)

    @asynccontextmanager
    async def hold(self, size: int, *, client: str | None = None, seconds: float | None = None) -> AsyncIterator[None]:
        """Hold `size` for the block; raises TimeoutError if it is not free in `seconds` (None: never).

        Requests with a `client` are limited to its share and take turns; those without one count as one client that
        has no limit.
        """
        request = FairRequest(client=client, size=size)
        self._queue.add(request)
        try:
            if not request.granted:
                granted = asyncio.Event()
                request.grant = granted.set
                async with asyncio.timeout(seconds):
                    await granted.wait()
            yield
        finally:
            self._queue.remove(request)
