"""Find the parts of an image file from which its pixels are decoded.

The rest of a file (texts, colour profiles, EXIF, thumbnails, animation frames) may be large or damaged. Viewers skip
it, so a decoder gets only the parts found here. Sources: PNG (W3C, third edition), JPEG (ITU-T T.81).
"""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from service.domain.media.file_headers import jpeg_step, sniff
from service.domain.media.limits import Unreadable

MAX_TEXT_BYTES = 64 * 1024 * 1024
"""Decompressed bytes of all texts and profiles of a PNG: decoders that unpack them refuse more."""

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
JPEG_END = b"\xff\xd9"

_PNG_START = 8
_INFLATE_STEP = 1024 * 1024
_PACKED_CHUNKS = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_MAX_SEGMENTS = 10_000
_METADATA = frozenset(range(0xE0, 0xF0)) | {0xFE}  # APP0 to APP15, and comments
_SCAN = 0xDA


@dataclass(kw_only=True)
class Parts:
    """The parts of `data` that were kept, as views: nothing is copied. Adjacent parts become one."""

    data: bytes
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def keep(self, start: int, end: int) -> None:
        """Append the bytes from `start` to `end`."""
        if self.ranges and self.ranges[-1][1] == start:
            start = self.ranges.pop()[0]
        self.ranges.append((start, end))

    def views(self) -> list[memoryview]:
        """Return the parts in their order."""
        whole = memoryview(self.data)
        return [whole[start:end] for start, end in self.ranges]


def pixel_parts(data: bytes) -> list[memoryview]:
    """Return the parts of an image from which its pixels are decoded; raise `Unreadable` for a damaged one.

    A PNG has its end mark even if the file lacks it. Other formats than PNG and JPEG are returned whole.
    """
    match sniff(data):
        case "png":
            return [*_png_parts(data), memoryview(PNG_END)]
        case "jpeg":
            return _jpeg_parts(data)
        case _:
            return [memoryview(data)]


def _png_parts(data: bytes) -> list[memoryview]:
    """Return the signature, the critical chunks and the transparency of a PNG, without its end mark.

    The checksum of a critical chunk must be right; a transparency with a wrong one is left out, as decoders do.
    """
    parts, unpacked = Parts(data=data), 0
    parts.keep(0, _PNG_START)
    for kind, start, end in _png_chunks(data):
        if kind in _PACKED_CHUNKS:
            unpacked += _unpacked_bytes(kind, memoryview(data)[start + 8 : end - 4], MAX_TEXT_BYTES - unpacked)
            if unpacked > MAX_TEXT_BYTES:
                raise Unreadable("its texts or colour profile are too large when unpacked")
        critical = kind[:1].isupper()
        if critical and end > len(data):
            raise Unreadable("it is cut short")
        intact = zlib.crc32(memoryview(data)[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
        if critical and not intact:
            raise Unreadable("a part of it is damaged: its checksum is wrong")
        if intact and (critical or kind == b"tRNS"):
            parts.keep(start, end)
    return parts.views()


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk of a PNG before its end mark; the last one may end after the file."""
    at = _PNG_START
    while at + 8 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        if kind == b"IEND" or not (kind.isascii() and kind.isalpha()):
            return
        yield kind, at, end
        at = end


def _unpacked_bytes(kind: bytes, body: memoryview, limit: int) -> int:
    """Return the decompressed size of a text or profile, counted up to a little over `limit`; nothing is kept.

    Damaged data count up to the damage.
    """
    rest, total, inflating = _packed(kind, bytes(body)), 0, zlib.decompressobj()
    with suppress(zlib.error):
        while total <= limit and (part := inflating.decompress(rest, _INFLATE_STEP)):
            total, rest = total + len(part), inflating.unconsumed_tail
    return total


def _packed(kind: bytes, body: bytes) -> bytes:
    """Return the compressed part of a chunk's body, empty if it is not compressed."""
    keyword, _, rest = body.partition(b"\0")
    if kind != b"iTXt":
        return rest[1:]  # after the compression method
    if not keyword or rest[:1] != b"\1":
        return b""
    return rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # after flag and method: a language, a translated keyword


def _jpeg_parts(data: bytes) -> list[memoryview]:
    """Return a JPEG without the metadata before its first scan; from there on it is whole."""
    parts, at = Parts(data=data), 2
    parts.keep(0, at)
    for _ in range(_MAX_SEGMENTS):
        marker = data[at + 1] if data[at : at + 1] == b"\xff" and at + 1 < len(data) else _SCAN
        if marker == _SCAN:
            break
        step = jpeg_step(data, at, marker)
        if marker not in _METADATA:
            parts.keep(at, min(at + step, len(data)))
        at += step
    parts.keep(min(at, len(data)), len(data))
    return parts.views()
