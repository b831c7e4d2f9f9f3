"""Decode images with Pillow, from the parts of a file that hold the pixels.

Pillow's own tolerance for unfinished files and its limits for texts are globals of the process, which other threads
would see. So a decoder gets a file without the parts that those settings are about.
"""

import io
from collections.abc import Sequence

from service.domain.media.file_headers import has_all_scans, scan_count
from service.domain.media.image_parts import JPEG_END, pixel_parts
from service.domain.media.limits import Unreadable
from service.domain.media.png_pixels import is_intact_png

FILLERS = (b"\x00" * 64, b"\x55" * 64)
"""Bytes in place of a missing end of a JPEG: if all of it was decoded before, they do not change its pixels."""

MAX_SCANS_COMPARED = 20
"""Scans of a JPEG that is decoded three times for its missing end; encoders write about ten."""

COMPARED_SCALE = 2
"""A JPEG without its end mark is decoded at half its size, of which two pictures are held."""


class PartsFile(io.RawIOBase):
    """A file that consists of parts of another one, without a copy of them."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._size = sum(map(len, parts))
        self._at = 0

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
        """Fill `buffer` from one part; return how many bytes it got, 0 at the end."""
        at = self._at
        for part in self._parts:
            if at < len(part):
                count = min(len(buffer), len(part) - at)
                buffer[:count] = part[at : at + count]
                self._at += count
                return count
            at -= len(part)
        return 0


def decode_image(data: bytes, form: str, size: tuple[int, int]) -> None:
    """Decode an image of Pillow's format `form` whose header states `size` in pixels.

    A PNG that is certainly whole is not decoded: its checksums cover every pixel.

    Raises the error of the decoder, and Unreadable if the decoder reads another size: memory is reserved for `size`.
    """
    parts = pixel_parts(data)
    if form == "PNG" and is_intact_png(parts, size):
        return
    try:
        _decode(parts, form, size, scale=8)  # a JPEG is read to its end, but decoded at an eighth of its size
    except OSError:
        comparable = form == "JPEG" and scan_count(data) <= MAX_SCANS_COMPARED and has_all_scans(data)
        if not comparable or not _decodes_without_end(parts, size):
            raise


def _decodes_without_end(parts: Sequence[memoryview], size: tuple[int, int]) -> bool:
    """Return whether a JPEG lacks only its end mark: then the pixels do not depend on what stands in its place."""
    start, last = parts[:-1], bytes(parts[-1]).rstrip(b"\xff")
    pictures = [
        _decode([*start, memoryview(last), memoryview(filler + JPEG_END)], "JPEG", size, scale=COMPARED_SCALE)
        for filler in FILLERS
    ]
    return pictures[0] == pictures[1]


def _decode(parts: Sequence[memoryview], form: str, size: tuple[int, int], *, scale: int) -> bytes:
    """Return the decoded pixels, those of a JPEG at 1/`scale` of its size; at 1/8 nothing is returned."""
    from PIL import Image  # noqa: PLC0415 - several MB that only a process which checks media needs

    with io.BufferedReader(PartsFile(parts)) as file, Image.open(file, formats=[form]) as image:
        if image.size != size:
            raise Unreadable("its header is damaged")
        image.draft("RGB", (size[0] // scale, size[1] // scale))
        image.load()
        return image.tobytes() if scale == COMPARED_SCALE else b""
