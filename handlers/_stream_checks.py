"""Checks whether a file is complete while it streams, with the rules of `_file_types.py` for files on a disk.

Only what needs the whole file is left out: a video is not opened with PyAV.
"""

from typing import Protocol

from ._file_types import (
    BOX_HEADER,
    CONTENT_BOXES,
    FIRST_SEGMENTS,
    INDEXES,
    LONG_BOX_HEADER,
    MAX_INDEX,
    MAX_PARTS,
    MAX_SAMPLES,
    PNG_SIGNATURE,
    SAMPLE_TABLE,
    FileType,
    is_playable,
)

CUT_OFF = "it was cut off"
OVERLAP = 15
"""Bytes of a sample table's beginning behind its first one: the last ones of a part are searched with the next part."""


class StreamCheck(Protocol):
    """Receives a file in parts."""

    def feed(self, data: bytes) -> None:
        """Take the next part."""

    def corruption(self) -> str | None:
        """Return, after the last part, why the file is not complete, or None."""


def stream_check(file_type: FileType) -> StreamCheck:
    """Return the check for a file of this type."""
    checks: dict[str, type[StreamCheck]] = {"mp4": Mp4Check, "png": PngCheck, "jpg": JpegCheck, "webp": WebpCheck}
    return checks.get(file_type.name, NoCheck)()


class NoCheck:
    """Accepts every file: its container does not show whether it was truncated; Content-Length does."""

    def feed(self, data: bytes) -> None:
        """Take the next part."""

    def corruption(self) -> str | None:
        """Return None."""
        return None


class Mp4Check:
    """Follows the top-level boxes, and counts the samples that the indexes declare."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._header = b""
        self._left: int | None = 0
        self._kind = b""
        self._index_bytes = 0
        self._tail = b""
        self._samples = 0
        self._beyond = False
        """Whether what follows is no box."""

    def feed(self, data: bytes) -> None:
        """Take the next part."""
        at = 0
        while at < len(data) and not self._beyond:
            if self._left == 0:
                at += self._read_header(data, at)
                continue
            stop = len(data) if self._left is None else min(len(data), at + self._left)
            self._read_content(data[at:stop] if self._kind in INDEXES else b"", stop - at)
            at = stop

    def _read_header(self, data: bytes, at: int) -> int:
        """Take bytes of a box's header; return how many."""
        short = int.from_bytes(self._header[:4], "big") == 1 if len(self._header) >= BOX_HEADER else None
        wanted = LONG_BOX_HEADER if short else BOX_HEADER
        taken = data[at : at + wanted - len(self._header)]
        self._header += taken
        length = int.from_bytes(self._header[:4], "big")
        if len(self._header) < BOX_HEADER or (length == 1 and len(self._header) < LONG_BOX_HEADER):
            return len(taken)
        least = BOX_HEADER
        if length == 1:
            length, least = int.from_bytes(self._header[8:], "big"), LONG_BOX_HEADER
        self._begin(length, least)
        return len(taken)

    def _begin(self, length: int, least: int) -> None:
        self._kind, self._index_bytes, self._tail = self._header[4:8], 0, b""
        endless = length == 0 and least == BOX_HEADER
        if length < least and not endless:
            self._beyond = True
            return
        self._left = None if endless else length - len(self._header)
        if self._kind in INDEXES:
            self._index_bytes = len(self._header)
        self._header = b"" if self._left != 0 else self._header
        if self._left == 0:
            self._end()

    def _read_content(self, index: bytes, count: int) -> None:
        if index:
            self._index_bytes += count
            self._scan(index)
        if self._left is not None:
            self._left -= count
            if self._left == 0:
                self._end()

    def _scan(self, index: bytes) -> None:
        text = self._tail + index
        begin = len(text) - OVERLAP
        self._samples += sum(_count(found) for found in SAMPLE_TABLE.finditer(text) if found.start() < begin)
        self._tail = text[max(0, begin) :]

    def _end(self) -> None:
        """Note a complete box."""
        if self._kind in INDEXES:
            self._samples += sum(_count(found) for found in SAMPLE_TABLE.finditer(self._tail))
            self._samples += MAX_SAMPLES + 1 if self._index_bytes > MAX_INDEX else 0
        self._seen.add(self._kind)
        self._header, self._left, self._tail = b"", 0, b""

    def corruption(self) -> str | None:
        """Return, after the last part, why the file is not complete, or None."""
        if self._left is None:
            self._end()
        unfinished = self._beyond or bool(self._header) or self._left != 0
        kind = self._header[4:8] if self._header else self._kind
        if unfinished and not (is_playable(self._seen) and kind not in CONTENT_BOXES):
            return CUT_OFF
        if self._samples > MAX_SAMPLES:
            return f"its index declares more than {MAX_SAMPLES} samples"
        return None if is_playable(self._seen) else "it has no index or no pictures"


def _count(found: "object") -> int:
    return int.from_bytes(found["count"] or b"\xff" * 4, "big")  # type: ignore[index]


class PngCheck:
    """Follows the chunks to the last one; bytes behind it are tolerated."""

    def __init__(self) -> None:
        self._skip = PNG_SIGNATURE
        self._header = b""
        self._parts = 0
        self._complete = False

    def feed(self, data: bytes) -> None:
        """Take the next part."""
        at = 0
        while at < len(data) and not self._complete and self._parts < MAX_PARTS:
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            taken = data[at : at + 8 - len(self._header)]
            self._header += taken
            at += len(taken)
            if len(self._header) == 8:  # noqa: PLR2004 - the length and the name of a chunk
                self._complete = self._header[4:] == b"IEND"
                self._skip = 4 + int.from_bytes(self._header[:4], "big")
                self._parts += 1
                self._header = b""

    def corruption(self) -> str | None:
        """Return, after the last part, why the file is not complete, or None."""
        if self._complete:
            return None
        return f"it has more than {MAX_PARTS} parts" if self._parts >= MAX_PARTS else CUT_OFF


class JpegCheck:
    """Looks for the end mark behind the first scan, where pixels never contain it."""

    def __init__(self) -> None:
        self._data = b""
        self._skip = 2
        self._parts = 0
        self._in_scan = False
        self._complete = False

    def feed(self, data: bytes) -> None:
        """Take the next part."""
        if self._complete:
            return
        self._data += data
        while not self._in_scan:
            if self._skip >= len(self._data):
                self._skip -= len(self._data)
                self._data = b""
                return
            self._data, self._skip = self._data[self._skip :], 0
            if len(self._data) < 4:  # noqa: PLR2004 - a marker and a length
                return
            self._follow_marker()
        self._complete = b"\xff\xd9" in self._data
        self._data = self._data[-1:]

    def _follow_marker(self) -> None:
        marker = self._data[:2]
        if self._parts >= MAX_PARTS or not FIRST_SEGMENTS.fullmatch(marker):
            self._in_scan = True
            return
        self._parts += 1
        self._skip = 1 if marker == b"\xff\xff" else 2 + int.from_bytes(self._data[2:4], "big")

    def corruption(self) -> str | None:
        """Return, after the last part, why the file is not complete, or None."""
        short = not self._in_scan and self._skip == 0 and b"\xff\xd9" in self._data
        return None if self._complete or short else CUT_OFF


class WebpCheck:
    """Compares the length with the one that the file declares."""

    def __init__(self) -> None:
        self._head = b""
        self._length = 0

    def feed(self, data: bytes) -> None:
        """Take the next part."""
        self._head += data[: 8 - len(self._head)]
        self._length += len(data)

    def corruption(self) -> str | None:
        """Return, after the last part, why the file is not complete, or None."""
        return None if int.from_bytes(self._head[4:8], "little") + 8 <= self._length else CUT_OFF
