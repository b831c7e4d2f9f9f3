"""Limits the pixels that threads decode at once, first come, first served."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock


class PixelSemaphore:
    """A semaphore that counts pixels, `total` for all threads together, so that small pictures are opened at once."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._order = Lock()  # a large picture is not overtaken again and again by small ones
        self._changed = Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Hold `pixels` for the block, at most `total`; wait until they are free."""
        pixels = min(pixels, self.total)
        with self._order, self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify()
