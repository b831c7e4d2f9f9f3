"""Tell a media format, and an image's size, from the first bytes; nothing is decoded.

These are the structural checks that remain when no library is there to open a file, and the guard that keeps
a picture bomb away from the one that is. Sources: PNG (RFC 2083), JPEG (ITU-T T.81), WebP (RFC 9649),
AVI (RIFF), ISO base media files (ISO/IEC 14496-12) and QuickTime.
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

_NEEDED_BOXES = frozenset({b"moov", b"mdat", b"moof"})
_MOST_PARTS = 100_000
_MOST_SAMPLES = 2**32
_SAMPLE_TABLE = re.compile(  # it looks ahead and takes nothing, so that a decoy cannot swallow the name behind it
    rb"(?=(?:stsz|stz2).{8}(?P<sizes>.{4})|trun.{4}(?P<run>.{4})|(?P<packed>cmov))",
    re.DOTALL,
)
_RIFF_LISTS = frozenset({b"LIST", b"RIFF"})

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}
_JPEG_ENDS = frozenset({0xD9, 0xDA})
_JPEG_STEPS = 10_000  # no real file has more segments before its frame; a file of fill bytes must not keep us
_MOST_CHUNKS = 50_000  # of a PNG; encoders cut its pixels into chunks of 4 KB or more
_MOST_SCANS = 100  # of a JPEG; progressive ones have about ten, and each costs a walk over every pixel
_JPEG_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
"""A scan's marker, length and number of components, which fit together; nothing in packed pixels looks like it."""


def sniff(data: bytes) -> str | None:
    """Return the format that `data` begins as (`png`, `jpeg`, `webp`, `mp4`, `mov`, `avi`, ...), or None."""
    if data[:4] == b"RIFF":
        return _RIFF_FORMS.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _brand(data[8:12])
    if data[4:8] in _QUICKTIME_BOXES:
        return "mov"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def _brand(brand: bytes) -> str:
    """Return the format of an ISO base media file by its major brand; QuickTime has a brand of its own."""
    if brand == b"qt  ":
        return "mov"
    if brand in _STILL_BRANDS:
        return "heif"
    return "3gp" if brand[:2] == b"3g" else "mp4"


def is_cut_short(data: bytes) -> bool:
    """Return whether a video file lacks the end of a part that it says it has.

    This also keeps a part that claims gigabytes away from FFmpeg, which would reserve them. A file of more parts
    than a video of some seconds can have is refused the same way.
    """
    if data[:4] == b"RIFF":
        return _chunk_too_long(data)
    boxes = list(_boxes(data))
    return len(boxes) > _MOST_PARTS or any(kind in _NEEDED_BOXES and end > len(data) for kind, _, end in boxes)


def claimed_samples(data: bytes) -> int:
    """Return how many samples the tables of an ISO base media or QuickTime file claim to describe.

    A table of a few bytes may claim millions, for each of which FFmpeg reserves memory. Wherever such a table may
    hide it is found by its name; only media data is left out. A packed index (`cmov`) may hold anything.
    """
    size = len(data)  # a box may claim more than there is, and than a place in memory can be
    regions = [(at, end) for kind, at, end in _boxes(data) if kind != b"mdat"] if data[:4] != b"RIFF" else []
    tables = (match for at, end in regions for match in _SAMPLE_TABLE.finditer(data, min(at, size), min(end, size)))
    return sum(_MOST_SAMPLES if found["packed"] else _sample_count(found) for found in tables)


def _sample_count(found: re.Match[bytes]) -> int:
    return int.from_bytes(found["sizes"] or found["run"], "big")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each top-level box of an ISO base media or QuickTime file, up to a nonsense one."""
    at = 0
    for _ in range(_MOST_PARTS + 1):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # noqa: PLR2004 - the box goes on to the end (0), or there is none here
            yield (kind if not size else b"", at, len(data))
            return
        yield kind, at, at + size
        at += size


def _chunk_too_long(data: bytes) -> bool:
    """Walk the chunks of a RIFF file: a list is stepped into, any other chunk over."""
    at = 12
    for _ in range(_MOST_PARTS):
        if at + 8 > len(data):
            return False
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            return True
        at += 12 if kind in _RIFF_LISTS else 8 + size + size % 2
    return True


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels as a PNG, JPEG or WebP header states them, or None when it does not."""
    readers = {"png": _png_size, "jpeg": _jpeg_size, "webp": _webp_size}
    reader = readers.get(sniff(data) or "")
    size = reader(data) if reader else None
    return size if size and all(size) else None


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24 or data[12:16] != b"IHDR":  # noqa: PLR2004 - the signature and the two numbers of IHDR
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_JPEG_STEPS):
        if at + 9 > len(data) or data[at] != 0xFF:  # noqa: PLR2004 - every marker begins with 0xFF
            return None
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if marker in _JPEG_ENDS:
            return None
        at += _jpeg_step(data, at, marker)
    return None


def _jpeg_step(data: bytes, at: int, marker: int) -> int:
    """Return how far the next marker is: a fill byte, a marker alone, or one with a segment behind it."""
    if marker == 0xFF:  # noqa: PLR2004 - a fill byte before the marker proper
        return 1
    return 2 if marker in _JPEG_BARE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def is_shredded(data: bytes) -> bool:
    """Return whether an image consists of more parts than any real one has, each of which costs its decoder time.

    A JPEG of 100 KB can hold enough scans to keep a decoder for minutes.
    """
    form = sniff(data)
    if form == "jpeg":
        return scan_count(data) > _MOST_SCANS or _jpeg_head_is_endless(data)
    return form == "png" and _png_is_endless(data)


def scan_count(data: bytes) -> int:
    """Return how many scans a JPEG holds: each walks over the whole picture."""
    return len(_JPEG_SCAN.findall(data))


def _jpeg_head_is_endless(data: bytes) -> bool:
    at = 2
    for _ in range(_JPEG_STEPS):
        if at + 2 > len(data) or (data[at] == 0xFF and data[at + 1] in _JPEG_ENDS):  # noqa: PLR2004 - a marker
            return False
        at += _jpeg_step(data, at, data[at + 1]) if data[at] == 0xFF else 1  # noqa: PLR2004 - rubbish is skipped
    return True


def _png_is_endless(data: bytes) -> bool:
    at = 8
    for _ in range(_MOST_CHUNKS):
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
