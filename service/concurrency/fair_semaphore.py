"""Divides an amount between clients that wait for it in the event loop: bytes, threads."""

import asyncio
from functools import partial

from service.concurrency.fair_queue import FairQueue, FairRequest


class FairSemaphore:
    """A semaphore that counts: `total` for all holders together, and no more for one client than is left for others.

    A request larger than `total` waits until nothing else is held, and is then held alone.
    """

    def __init__(self, total: int) -> None:
        self._queue = FairQueue(total)

    def hold(self, size: int, *, client: str | None = None, seconds: float | None = None) -> "Held":
        """Hold `size` for the block; raises TimeoutError if it is not free in `seconds` (None: never).

        Requests with a `client` are limited to its share and take turns; those without one count as one client that
        has no limit.
        """
        return Held(self._queue, FairRequest(client=client, size=size), seconds)


class Held:
    """A block that holds what `request` asks for. Every delivery enters one, and a generator would take longer."""

    __slots__ = ("_queue", "_request", "_seconds")

    def __init__(self, queue: FairQueue, request: FairRequest, seconds: float | None) -> None:
        self._queue, self._request, self._seconds = queue, request, seconds

    async def __aenter__(self) -> None:
        self._queue.add(self._request)
        if self._request.granted:
            return
        try:
            await self._granted()
        except BaseException:
            self._queue.remove(self._request)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._queue.remove(self._request)

    async def _granted(self) -> None:
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[None] = loop.create_future()
        self._request.grant = partial(_resolve, granted)
        timer = None if self._seconds is None else loop.call_later(self._seconds, _resolve, granted, TimeoutError())
        try:
            await granted
        finally:
            if timer:
                timer.cancel()


def _resolve(granted: asyncio.Future[None], error: BaseException | None = None) -> None:
    """End a wait, unless it has ended: it was cancelled, or its time was over."""
    if granted.done():
        return
    if error:
        granted.set_exception(error)
    else:
        granted.set_result(None)
