"""Detects the type of a file by its bytes, and whether the file is complete. Only reads."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

HEAD = 16
"""Bytes at the beginning of a file that identify its type."""

INDEXES = frozenset({b"moov", b"moof"})
CONTENT_BOXES = INDEXES | {b"ftyp", b"styp", b"sidx", b"mdat", b"mfra"}
"""Boxes that must be complete."""

PNG_SIGNATURE = 8
FIRST_SEGMENTS = re.compile(rb"\xff[^\xd9\xda]", re.DOTALL)
"""Markers of a JPEG before its first scan."""

MAX_PARTS = 100_000
"""Chunks or segments of an image that are followed; real ones have at most some thousands."""

MAX_INDEX = 64 * 1024**2
MAX_SAMPLES = 2_000_000
"""Two minutes of uncompressed sound at 16 kHz; ten seconds of the best sound and pictures need fewer."""

SAMPLE_TABLE = re.compile(rb"(?=(?:(?:stsz|stz2).{8}|trun.{4})(?P<count>.{4})|cmov)", re.DOTALL)
"""Where an index stores a count of samples; a compressed index stores none, and counts as too many."""

BOX_HEADER = 8
LONG_BOX_HEADER = 16


@dataclass(frozen=True, kw_only=True)
class FileType:
    """A type of file.

    `holds` is `video` or `image`. `matches` tests the first bytes of a file. `corruption` takes the open file and its
    size in bytes, and returns why the file is not complete, or None. `container` is PyAV's name of a video's type.
    """

    name: str
    media_type: str
    holds: str
    matches: Callable[[bytes], bool] = field(repr=False)
    corruption: Callable[[BinaryIO, int], str | None] = field(repr=False)
    container: str | None = None


def file_type_of(head: bytes) -> FileType | None:
    """Return the type of the file that begins with `head` (16 bytes or more); None for HTML, text and unknown types."""
    return next((file_type for file_type in FILE_TYPES if file_type.matches(head)), None)


def corruption_of(path: Path, file_type: FileType) -> str | None:
    """Return why the file at `path` is not a complete one of `file_type`, or None. Blocks: run it in a thread."""
    with path.open("rb") as file:
        found = file_type_of(file.read(HEAD))
        if found is not file_type:
            return f"it is {found.name if found else 'no known video or image'}, not {file_type.name}"
        return file_type.corruption(file, path.stat().st_size) or _playback_error(path, file_type)


def _playback_error(path: Path, file_type: FileType) -> str | None:
    """Open a video with PyAV where it is installed; PyAV is imported only here, since it is large."""
    if file_type.container is None or importlib.util.find_spec("av") is None:
        return None
    av = importlib.import_module("av")
    try:
        with av.open(str(path), format=file_type.container, options={"skip_frame": "all"}) as movie:  # decodes nothing
            return None if movie.streams.video else "it has no video stream"
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return f"it cannot be opened as {file_type.name}: {type(error).__name__}"


def _mp4_corruption(file: BinaryIO, size: int) -> str | None:
    """Read the headers of the top-level boxes: a truncated file ends inside one, or has no index.

    Bytes behind the last box of a complete file are tolerated: players ignore what is no box, and a `free` one.
    """
    seen: set[bytes] = set()
    position = samples = 0
    while position < size:
        file.seek(position)
        header = file.read(LONG_BOX_HEADER)
        length = _box_length(header, size - position)
        if length is None or position + length > size:
            if is_playable(seen) and header[4:8] not in CONTENT_BOXES:
                break
            return "it was cut off"
        seen.add(header[4:8])
        samples += _declared_samples(file, position, length) if header[4:8] in INDEXES else 0
        if samples > MAX_SAMPLES:
            return f"its index declares more than {MAX_SAMPLES} samples"
        position += length
    return None if is_playable(seen) else "it has no index or no pictures"


def is_playable(boxes: set[bytes]) -> bool:
    """Return whether a video with these boxes has an index and pictures."""
    return {b"moov", b"mdat"} <= boxes or {b"moov", b"moof"} <= boxes


def _declared_samples(file: BinaryIO, position: int, length: int) -> int:
    """Return how many samples an index declares: a few bytes can make a decoder allocate gigabytes for its table."""
    if length > MAX_INDEX:
        return MAX_SAMPLES + 1
    file.seek(position)
    found = SAMPLE_TABLE.finditer(file.read(length))
    return sum(int.from_bytes(match["count"] or b"\xff" * 4, "big") for match in found)


def _box_length(header: bytes, remaining: int) -> int | None:
    if len(header) < BOX_HEADER:
        return None
    length = int.from_bytes(header[:4], "big")
    if length == 0:
        return remaining
    if length == 1:
        length = int.from_bytes(header[8:16], "big") if len(header) == LONG_BOX_HEADER else 0
        return length if length >= LONG_BOX_HEADER else None
    return length if length >= BOX_HEADER else None


def _png_corruption(file: BinaryIO, size: int) -> str | None:
    """Follow the chunks to the last one; bytes behind it are tolerated."""
    position = PNG_SIGNATURE
    for _ in range(MAX_PARTS):
        file.seek(position)
        header = file.read(8)
        if header[4:8] == b"IEND":
            return None
        position += 12 + int.from_bytes(header[:4], "big")
        if position >= size:
            return "it was cut off"
    return f"it has more than {MAX_PARTS} parts"


def _jpeg_corruption(file: BinaryIO, _: int) -> str | None:
    """Look for the end mark behind the first scan, where pixels never contain it; bytes behind it are tolerated."""
    with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        position = 2
        for _ in range(MAX_PARTS):
            marker = content[position : position + 2]
            if not FIRST_SEGMENTS.fullmatch(marker):
                break
            length = int.from_bytes(content[position + 2 : position + 4], "big")
            position += 1 if marker == b"\xff\xff" else 2 + length  # a fill byte, or a marker and its segment
        return None if content.find(b"\xff\xd9", position) >= 0 else "it was cut off"


def _webp_corruption(file: BinaryIO, size: int) -> str | None:
    file.seek(4)
    return None if int.from_bytes(file.read(4), "little") + 8 <= size else "it was cut off"


def _webm_corruption(_: BinaryIO, __: int) -> str | None:
    """Return None: the container does not show whether it was truncated; PyAV and Content-Length do."""
    return None


FILE_TYPES = (
    FileType(
        name="mp4",
        media_type="video/mp4",
        holds="video",
        matches=lambda head: head[4:8] == b"ftyp",
        corruption=_mp4_corruption,
        container="mp4",
    ),
    FileType(
        name="webm",
        media_type="video/webm",
        holds="video",
        matches=lambda head: head[:4] == b"\x1a\x45\xdf\xa3",
        corruption=_webm_corruption,
        container="webm",
    ),
    FileType(
        name="png",
        media_type="image/png",
        holds="image",
        matches=lambda head: head[:8] == b"\x89PNG\r\n\x1a\n",
        corruption=_png_corruption,
    ),
    FileType(
        name="jpg",
        media_type="image/jpeg",
        holds="image",
        matches=lambda head: head[:3] == b"\xff\xd8\xff",
        corruption=_jpeg_corruption,
    ),
    FileType(
        name="webp",
        media_type="image/webp",
        holds="image",
        matches=lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        corruption=_webp_corruption,
    ),
)
"""Every type that is stored; `name` is also the extension of its files."""
