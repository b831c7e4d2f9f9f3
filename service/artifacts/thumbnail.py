"""Makes a small JPEG of a stored video or image. Blocks: run it in a thread.

The file is not trusted. It is opened only as the format of its media type, and what it may make a decoder read, hold
and compute is bounded.
"""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from service.artifacts.bounded_file import BoundedFile
from service.artifacts.ports import ReadAt
from service.domain.media.file_headers import claimed_samples
from service.domain.media.limits import Unreadable
from service.tasks.media_inspector import MAX_DECODED_PIXELS, MAX_SAMPLES, first_frame, missing_extras

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from PIL.Image import Image

SIDE = 320
"""Pixels of the longer side, at most."""
MAX_BYTES = 200 * 1000
QUALITIES = (80, 60, 35, 10)

MAX_READ = 96 * 1024**2
"""Bytes that may be read: the index of a video may be at its end and have 64 MiB."""
SECONDS = 10.0
MAX_INDEX = 64 * 1024**2
MAX_BOXES = 10_000
MAX_IMAGE = 32 * 1024**2

_CONTAINERS = {"video/mp4": "mov", "video/webm": "matroska"}
_IMAGES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_INDEXES = frozenset({b"moov", b"moof"})


def make_thumbnail(read_at: ReadAt, size: int, media_type: str) -> bytes:
    """Return a JPEG of at most SIDE pixels and MAX_BYTES of the file that `read_at` reads; raises Unreadable."""
    if missing := missing_extras():
        raise Unreadable(f"thumbnails need {' and '.join(missing)}: install the extra `media`")
    file = io.BufferedReader(BoundedFile(read_at, size, most=MAX_READ, seconds=SECONDS), 65_536)
    try:
        if media_type in _CONTAINERS:
            return _of_video(file, size, media_type)
        return _of_image(file, size, _IMAGES[media_type])
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable("it is damaged or cut short") from error


def _of_video(file: BinaryIO, size: int, media_type: str) -> bytes:
    if media_type == "video/mp4" and sum(_declared_samples(file, size)) > MAX_SAMPLES:
        raise Unreadable("its index declares too many samples")
    file.seek(0)
    return first_frame(file, _CONTAINERS[media_type], _jpeg_of_frame)


def _declared_samples(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the samples that each index of an MP4 file declares: a few bytes make FFmpeg reserve gigabytes for them."""
    at = 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        length = length or size - at
        if len(header) < 8 or length < 8:  # noqa: PLR2004 - no box
            return
        if kind in _INDEXES:
            if length > MAX_INDEX:
                raise Unreadable("its index is too large")
            file.seek(at)
            yield claimed_samples(file.read(length))
        at += length
        if at >= size:
            return
    raise Unreadable("it has too many parts")


def _jpeg_of_frame(frame: "VideoFrame") -> bytes:
    width, height = _scaled(frame.width, frame.height)
    scaled = frame.reformat(width=width, height=height, format="rgb24")
    picture: Image = scaled.to_image()  # type: ignore[no-untyped-call]  # PyAV leaves it untyped
    turned = picture.rotate(frame.rotation, expand=True) if frame.rotation else picture
    return _jpeg(turned)


def _of_image(file: BinaryIO, size: int, form: str) -> bytes:
    from PIL import Image, ImageOps  # noqa: PLC0415 - an extra

    if size > MAX_IMAGE:
        raise Unreadable("it is too large")
    data = io.BytesIO(file.read(size))
    with Image.open(data, formats=[form]) as picture:
        if picture.width * picture.height > MAX_DECODED_PIXELS:
            raise Unreadable("its picture is too large")
        picture.draft("RGB", (SIDE * 2, SIDE * 2))
        turned = ImageOps.exif_transpose(picture)
        turned.thumbnail((SIDE, SIDE))
        return _jpeg(turned.convert("RGB"))


def _scaled(width: int, height: int) -> tuple[int, int]:
    """Return a size with the same proportions whose longer side has at most SIDE pixels."""
    factor = min(1.0, SIDE / max(width, height, 1))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _jpeg(picture: "Image") -> bytes:
    for quality in QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() < MAX_BYTES:
            break
    return buffer.getvalue()
