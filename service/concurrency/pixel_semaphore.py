"""Limits the pixels that threads decode at once, and divides them between clients."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock

from service.concurrency.fair_queue import FairQueue, FairRequest


class PixelSemaphore:
    """A semaphore that counts pixels, `total` for all threads together, so that small pictures are opened at once.

    Pictures of up to `small` pixels have `small_total` of their own, so that none of them waits for a large one.
    """

    def __init__(self, total: int, *, small: int = 0, small_total: int = 0) -> None:
        self.total = total
        self._small = small
        self._large_queue, self._small_queue = FairQueue(total), FairQueue(small_total)
        self._lock = Lock()

    @contextmanager
    def hold(self, pixels: int, *, client: str | None = None) -> Iterator[None]:
        """Hold `pixels` for the block, at most `total`; wait until they are free and it is the client's turn."""
        queue = self._small_queue if pixels <= self._small else self._large_queue
        granted = Event()
        request = FairRequest(client=client, size=pixels, grant=granted.set)
        with self._lock:
            queue.add(request)
        try:
            granted.wait()
            yield
        finally:
            with self._lock:
                queue.remove(request)
