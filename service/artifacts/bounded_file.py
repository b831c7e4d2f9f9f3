"""A read-only file for decoders, which bounds how much they read, and until when."""

import io
import time

from service.artifacts.ports import ReadAt

BLOCK = 256 * 1024


class ReadLimit(OSError):
    """A decoder read more than it may, or for too long."""


class BoundedFile(io.RawIOBase):
    """The file of `size` bytes that `read_at` reads; every read after `seconds`, or beyond `most` bytes, fails.

    Decoders of FFmpeg need bytes for all that they do, so that a hostile file ends with one of the limits. The last
    blocks are kept, since decoders read a few bytes at a time.
    """

    def __init__(self, read_at: ReadAt, size: int, *, most: int, seconds: float) -> None:
        super().__init__()
        self._read_at = read_at
        self._size = size
        self._left = most
        self._end = time.monotonic() + seconds
        self._at = 0
        self._block: tuple[int, bytes] = (0, b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` from the start, the position or the end; return the new position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer in the base class
        """Fill `buffer` as far as one block reaches; return the number of bytes, 0 at the end. Raises ReadLimit."""
        if time.monotonic() > self._end or self._left <= 0:
            raise ReadLimit("the file takes too long to read, or has no picture near its beginning")
        start, data = self._block
        if not start <= self._at < start + len(data):
            start, stop = self._at, min(self._at + BLOCK, self._size)
            data = self._read_at(start, stop)
            self._block = (start, data)
        part = data[self._at - start :][: len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        self._left -= len(part)
        return len(part)
