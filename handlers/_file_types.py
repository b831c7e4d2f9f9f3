"""Detects the type of a file by its bytes, and whether the file is complete. Only reads."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

HEAD = 16
"""Bytes at the beginning of a file that identify its type."""

INDEXES = frozenset({b"moov", b"moof"})
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
    """Read the headers of the top-level boxes: a truncated file ends inside one, or has no index."""
    seen: set[bytes] = set()
    position = samples = 0
    while position < size:
        file.seek(position)
        header = file.read(LONG_BOX_HEADER)
        length = _box_length(header, size - position)
        if length is None or position + length > size:
            return "it was cut off"
        seen.add(header[4:8])
        samples += _declared_samples(file, position, length) if header[4:8] in INDEXES else 0
        if samples > MAX_SAMPLES:
            return f"its index declares more than {MAX_SAMPLES} samples"
        position += length
    return None if {b"moov", b"mdat"} <= seen or {b"moov", b"moof"} <= seen else "it has no index or no pictures"


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
    return None if b"IEND" in _tail(file, size, 12) else "it was cut off"


def _jpeg_corruption(file: BinaryIO, size: int) -> str | None:
    return None if b"\xff\xd9" in _tail(file, size, 64) else "it was cut off"


def _webp_corruption(file: BinaryIO, size: int) -> str | None:
    file.seek(4)
    return None if int.from_bytes(file.read(4), "little") + 8 <= size else "it was cut off"


def _webm_corruption(_: BinaryIO, __: int) -> str | None:
    """Return None: the container does not show whether it was truncated; PyAV and Content-Length do."""
    return None


def _tail(file: BinaryIO, size: int, limit: int) -> bytes:
    file.seek(max(0, size - limit))
    return file.read()


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
