"""Check the pixels of a PNG without decoding them: far faster than a decoder. Source: PNG (W3C, third edition)."""

import zlib
from collections.abc import Iterator, Sequence

_START = 8
_HEADER = 13
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""

_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3
_MAX_PALETTE = 3 * 256
_LAST_FILTER = 4
_MAX_ROWS_BYTES = 32 * 1024 * 1024
"""Bytes of the rows up to which they are unpacked here: a decoder takes as much memory for them."""


def is_intact_png(parts: Sequence[memoryview], size: tuple[int, int]) -> bool:
    """Return True if the pixels of a PNG of `size` are certainly whole; False if a decoder has to decide.

    `parts` are those of `pixel_parts`: critical chunks with correct checksums. The rows must unpack to exactly what
    the header declares, with a correct checksum, and each must name a filter that exists. Interlaced and large ones
    are left to a decoder.
    """
    packed: list[memoryview] = []
    header, palette = b"", False
    for kind, body in _chunks(parts):
        if kind == b"IHDR" and not header:
            header = bytes(body)
        elif kind == b"IDAT":
            packed.append(body)
        elif kind == b"PLTE" and not packed:
            palette = 0 < len(body) <= _MAX_PALETTE and len(body) % 3 == 0
        elif kind != b"IEND" and (kind != b"tRNS" or packed):
            return False
    stride = _row_bytes(header, size)
    if not stride or not packed or (header[9] == _PALETTE and not palette):
        return False
    return _rows_are_intact(packed, stride, stride * size[1])


def _chunks(parts: Sequence[memoryview]) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and body of each chunk. Every part ends with a chunk, and the first one begins with the signature."""
    at = _START
    for part in parts:
        while at < len(part):
            end = at + 12 + int.from_bytes(part[at : at + 4], "big")
            yield bytes(part[at + 4 : at + 8]), part[at + 8 : end - 4]
            at = end
        at = 0


def _row_bytes(header: bytes, size: tuple[int, int]) -> int:
    """Return the bytes of a row with its filter; 0 for a header that is invalid, or not that of a plain image."""
    if len(header) != _HEADER or header[10:] != b"\0\0\0":  # deflate, the usual filters, not interlaced
        return 0
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, colour = header[8], header[9]
    if (width, height) != size or depth not in _BITS.get(colour, ()):
        return 0
    return 1 + (width * _CHANNELS[colour] * depth + 7) // 8


def _rows_are_intact(packed: Sequence[memoryview], stride: int, expected: int) -> bool:
    if expected > _MAX_ROWS_BYTES:
        return False
    inflating, rows = zlib.decompressobj(), bytearray()
    try:
        for each in packed:
            rows += inflating.decompress(each, expected + 1 - len(rows))
            if len(rows) > expected:
                return False
    except zlib.error:
        return False
    if not inflating.eof or inflating.unused_data or len(rows) != expected:
        return False
    return max(rows[::stride]) <= _LAST_FILTER
