"""A bound on the pixels that are decoded at a time, for threads, given out first come first served."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock


class PixelSemaphore:
    """A semaphore by size: `total` pixels for all threads together, so that small pictures are opened side by side."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._turn = Lock()  # whoever needs much is not overtaken for ever by those who need little
        self._changed = Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Hold so many pixels for the block, or all of them where that is less; wait until they are free."""
        pixels = min(pixels, self.total)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify()
