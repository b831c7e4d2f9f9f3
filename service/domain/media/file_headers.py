"""Detect the format of a media file and the size of an image from their headers, without decoding.

These structural checks are all that remains without Pillow and PyAV. With them, they reject decompression bombs before
a decoder opens them. Sources: PNG (RFC 2083), JPEG (ITU-T T.81), WebP (RFC 9649), AVI (RIFF), ISO base media files
(ISO/IEC 14496-12) and QuickTime.
"""

import re
from collections.abc import Iterator

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"OggS", "ogg"),
    (b"%PDF", "pdf"),
)
_RIFF_FORMS = {b"WEBP": "webp", b"AVI ": "avi", b"AVIX": "avi", b"WAVE": "wav"}
_STILL_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"})
_QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})

_REQUIRED_BOXES = frozenset({b"moov", b"mdat", b"moof"})
_MAX_PARTS = 100_000
_MAX_SAMPLES = 2**32
_SAMPLE_TABLE = re.compile(  # a lookahead: matches overlap, so that a decoy cannot hide the name after it
    rb"(?=(?:stsz|stz2).{8}(?P<sizes>.{4})|trun.{4}(?P<run>.{4})|(?P<packed>cmov))",
    re.DOTALL,
)
_RIFF_LISTS = frozenset({b"LIST", b"RIFF"})

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset(range(0xD0, 0xD8)) | {0x01}
_JPEG_ENDS = frozenset({0xD9, 0xDA})
_MAX_JPEG_STEPS = 10_000  # real files have fewer segments before their frame; limits the time for a file of fill bytes
_MAX_CHUNKS = 50_000  # of a PNG; encoders write chunks of 4 KB or more
_MAX_SCANS = 100  # of a JPEG; progressive ones have about ten, and decoding each takes a pass over every pixel
_JPEG_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
"""The marker, length and number of components of a scan. They are consistent; compressed pixels never match."""


def sniff(data: bytes) -> str | None:
    """Return the format by the first bytes of `data` (`png`, `jpeg`, `webp`, `mp4`, `mov`, `avi`, ...), or None."""
    if data[:4] == b"RIFF":
        return _RIFF_FORMS.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _brand(data[8:12])
    if data[4:8] in _QUICKTIME_BOXES:
        return "mov"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def _brand(brand: bytes) -> str:
    """Return the format of an ISO base media file by its major brand, which is `qt` for QuickTime."""
    if brand == b"qt  ":
        return "mov"
    if brand in _STILL_BRANDS:
        return "heif"
    return "3gp" if brand[:2] == b"3g" else "mp4"


def is_truncated(data: bytes) -> bool:
    """Return whether a part of a video file ends after the end of the file.

    FFmpeg reserves the memory that a part declares, up to gigabytes. A file with more parts than a video of some
    seconds can have counts as truncated too.
    """
    if data[:4] == b"RIFF":
        return _chunk_too_long(data)
    boxes = list(_boxes(data))
    return len(boxes) > _MAX_PARTS or any(kind in _REQUIRED_BOXES and end > len(data) for kind, _, end in boxes)


def claimed_samples(data: bytes) -> int:
    """Return how many samples the tables of an ISO base media or QuickTime file declare.

    A table of a few bytes may declare millions, and FFmpeg reserves memory for each. Tables are searched by name
    everywhere except in media data. A compressed index (`cmov`) counts as the maximum.
    """
    size = len(data)  # a box may declare more than the file holds, and more than an index of a sequence can be
    regions = [(at, end) for kind, at, end in _boxes(data) if kind != b"mdat"] if data[:4] != b"RIFF" else []
    tables = (match for at, end in regions for match in _SAMPLE_TABLE.finditer(data, min(at, size), min(end, size)))
    return sum(_MAX_SAMPLES if found["packed"] else _sample_count(found) for found in tables)


def _sample_count(found: re.Match[bytes]) -> int:
    return int.from_bytes(found["sizes"] or found["run"], "big")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each top-level box of an ISO base media or QuickTime file, up to an invalid one."""
    at = 0
    for _ in range(_MAX_PARTS + 1):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # noqa: PLR2004 - the box extends to the end of the file (0), or is invalid
            yield (kind if not size else b"", at, len(data))
            return
        yield kind, at, at + size
        at += size


def _chunk_too_long(data: bytes) -> bool:
    """Return whether a chunk of a RIFF file ends after the file; chunks inside of lists are checked too.

    What is no chunk of an AVI behind its pictures is tolerated: bytes behind the end of the file.
    """
    at, end_of_pictures = 12, len(data)
    for _ in range(_MAX_PARTS):
        if at + 8 > len(data):
            return False
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            return at < end_of_pictures or kind in _RIFF_LISTS or kind == b"idx1"
        if kind == b"LIST" and data[at + 8 : at + 12] == b"movi":
            end_of_pictures = at + 8 + size
        at += 12 if kind in _RIFF_LISTS else 8 + size + size % 2
    return True


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels from the header of a PNG, JPEG or WebP; None if it has none."""
    readers = {"png": _png_size, "jpeg": _jpeg_size, "webp": _webp_size}
    reader = readers.get(sniff(data) or "")
    size = reader(data) if reader else None
    return size if size and all(size) else None


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24 or data[12:16] != b"IHDR":  # noqa: PLR2004 - the signature and the two numbers of IHDR
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = _jpeg_frame(data)
    if at is None:
        return None
    return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")


def _jpeg_frame(data: bytes) -> int | None:
    """Return where the frame of a JPEG begins, which states its size and its components."""
    at = 2
    for _ in range(_MAX_JPEG_STEPS):
        if at + 9 > len(data) or data[at] != 0xFF:  # noqa: PLR2004 - every marker begins with 0xFF
            return None
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            return at
        if marker in _JPEG_ENDS:
            return None
        at += jpeg_step(data, at, marker)
    return None


def has_all_scans(data: bytes) -> bool:
    """Return whether the scans of a JPEG state every coefficient of every component in full precision.

    Where a file ends between two scans nothing else shows that some are missing.
    """
    at = _jpeg_frame(data)
    if at is None:
        return False
    complete = dict.fromkeys(data[at + 10 : at + 10 + 3 * data[at + 9] : 3], 0)
    for scan in _JPEG_SCAN.finditer(data, at):
        count, start = data[scan.end() - 1], scan.end()
        first, last, precision = data[start + 2 * count : start + 2 * count + 3].ljust(3, b"\xff")
        if precision & 0x0F == 0:
            for component in data[start : start + 2 * count : 2]:
                complete[component] = complete.get(component, 0) | (2 << min(last, 63)) - (1 << min(first, 63))
    return all(found == 2**64 - 1 for found in complete.values())


def jpeg_step(data: bytes, at: int, marker: int) -> int:
    """Return the distance from the marker of a JPEG at `at` to the next one.

    It is that of a fill byte, of a standalone marker, or of a marker and its segment.
    """
    if marker == 0xFF:  # noqa: PLR2004 - a fill byte before the marker
        return 1
    return 2 if marker in _JPEG_STANDALONE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def has_too_many_parts(data: bytes) -> bool:
    """Return whether an image has more parts than a real one; its decoder spends time on each.

    The scans of a JPEG of 100 KB can take minutes to decode.
    """
    form = sniff(data)
    if form == "jpeg":
        return scan_count(data) > _MAX_SCANS or _jpeg_has_too_many_segments(data)
    return form == "png" and _png_has_too_many_chunks(data)


def scan_count(data: bytes) -> int:
    """Return the number of scans of a JPEG; decoding each takes a pass over the whole image."""
    return len(_JPEG_SCAN.findall(data))


def _jpeg_has_too_many_segments(data: bytes) -> bool:
    at = 2
    for _ in range(_MAX_JPEG_STEPS):
        if at + 2 > len(data) or (data[at] == 0xFF and data[at + 1] in _JPEG_ENDS):  # noqa: PLR2004 - a marker
            return False
        at += jpeg_step(data, at, data[at + 1]) if data[at] == 0xFF else 1  # noqa: PLR2004 - other bytes are skipped
    return True


def _png_has_too_many_chunks(data: bytes) -> bool:
    at = 8
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X" and len(body) == 10:  # noqa: PLR2004 - flags, then the canvas
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L" and body[:1] == b"\x2f":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None
