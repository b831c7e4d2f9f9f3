"""Telling what a file is by its bytes, and whether it is whole. Only reads."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

HEAD = 16
"""Bytes at the beginning of a file that tell its kind."""

INDEXES = frozenset({b"moov", b"moof"})
MOST_INDEX = 64 * 1024**2
MOST_SAMPLES = 2_000_000
"""Two minutes of plain sound at 16 kHz; ten seconds of the best of sound and pictures are fewer."""

SAMPLE_TABLE = re.compile(rb"(?=(?:(?:stsz|stz2).{8}|trun.{4})(?P<count>.{4})|cmov)", re.DOTALL)
"""Where a count of samples stands; a packed index tells none, and counts as too many."""

BOX_HEADER = 8
LONG_BOX_HEADER = 16


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file: what it holds (`video` or `image`), how a whole one is known, and PyAV's name for it."""

    name: str
    media_type: str
    holds: str
    known: Callable[[bytes], bool] = field(repr=False)
    fault: Callable[[BinaryIO, int], str | None] = field(repr=False)
    container: str | None = None


def kind_of(head: bytes) -> Kind | None:
    """Return the kind of the file that begins with `head` (16 bytes or more); None for HTML, text and the unknown."""
    return next((kind for kind in KINDS if kind.known(head)), None)


def fault_of(path: Path, kind: Kind) -> str | None:
    """Return why the file at `path` is no whole one of `kind`, None when it is. Blocks: run it in a thread."""
    with path.open("rb") as file:
        found = kind_of(file.read(HEAD))
        if found is not kind:
            return f"it is {found.name if found else 'no known video or image'}, not {kind.name}"
        return kind.fault(file, path.stat().st_size) or _unplayable(path, kind)


def _unplayable(path: Path, kind: Kind) -> str | None:
    """Open a video with PyAV where it is installed; loaded only here, since it is large."""
    if kind.container is None or importlib.util.find_spec("av") is None:
        return None
    av = importlib.import_module("av")
    try:
        with av.open(str(path), format=kind.container, options={"skip_frame": "all"}) as movie:  # nothing is decoded
            return None if movie.streams.video else "it has no video stream"
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return f"it cannot be opened as {kind.name}: {type(error).__name__}"


def _mp4_fault(file: BinaryIO, size: int) -> str | None:
    """Walk the boxes at the top level: a file that was cut off ends in the middle of one, or lacks its index."""
    seen: set[bytes] = set()
    at = claimed = 0
    while at < size:
        file.seek(at)
        header = file.read(LONG_BOX_HEADER)
        length = _box_length(header, size - at)
        if length is None or at + length > size:
            return "it was cut off"
        seen.add(header[4:8])
        claimed += _claimed(file, at, length) if header[4:8] in INDEXES else 0
        if claimed > MOST_SAMPLES:
            return f"its index claims more than {MOST_SAMPLES} samples"
        at += length
    return None if {b"moov", b"mdat"} <= seen or {b"moov", b"moof"} <= seen else "it has no index or no pictures"


def _claimed(file: BinaryIO, at: int, length: int) -> int:
    """Return how many samples an index claims: a few bytes can make a decoder take gigabytes for its table."""
    if length > MOST_INDEX:
        return MOST_SAMPLES + 1
    file.seek(at)
    found = SAMPLE_TABLE.finditer(file.read(length))
    return sum(int.from_bytes(one["count"] or b"\xff" * 4, "big") for one in found)


def _box_length(header: bytes, left: int) -> int | None:
    if len(header) < BOX_HEADER:
        return None
    length = int.from_bytes(header[:4], "big")
    if length == 0:
        return left
    if length == 1:
        length = int.from_bytes(header[8:16], "big") if len(header) == LONG_BOX_HEADER else 0
        return length if length >= LONG_BOX_HEADER else None
    return length if length >= BOX_HEADER else None


def _png_fault(file: BinaryIO, size: int) -> str | None:
    return None if b"IEND" in _tail(file, size, 12) else "it was cut off"


def _jpeg_fault(file: BinaryIO, size: int) -> str | None:
    return None if b"\xff\xd9" in _tail(file, size, 64) else "it was cut off"


def _webp_fault(file: BinaryIO, size: int) -> str | None:
    file.seek(4)
    return None if int.from_bytes(file.read(4), "little") + 8 <= size else "it was cut off"


def _webm_fault(_: BinaryIO, __: int) -> str | None:
    """Nothing in the container's frame tells that it was cut off; PyAV and Content-Length do."""
    return None


def _tail(file: BinaryIO, size: int, most: int) -> bytes:
    file.seek(max(0, size - most))
    return file.read()


KINDS = (
    Kind(
        name="mp4",
        media_type="video/mp4",
        holds="video",
        known=lambda head: head[4:8] == b"ftyp",
        fault=_mp4_fault,
        container="mp4",
    ),
    Kind(
        name="webm",
        media_type="video/webm",
        holds="video",
        known=lambda head: head[:4] == b"\x1a\x45\xdf\xa3",
        fault=_webm_fault,
        container="webm",
    ),
    Kind(
        name="png",
        media_type="image/png",
        holds="image",
        known=lambda head: head[:8] == b"\x89PNG\r\n\x1a\n",
        fault=_png_fault,
    ),
    Kind(
        name="jpg",
        media_type="image/jpeg",
        holds="image",
        known=lambda head: head[:3] == b"\xff\xd8\xff",
        fault=_jpeg_fault,
    ),
    Kind(
        name="webp",
        media_type="image/webp",
        holds="image",
        known=lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        fault=_webp_fault,
    ),
)
"""Every kind that is kept; `name` is also its file's extension."""
