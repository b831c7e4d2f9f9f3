"""The check of a PNG's pixels without decoding them: it is sure, or leaves the image to a decoder."""

import zlib
from io import BytesIO

import pytest
from PIL import Image

from service.domain.media.image_parts import PNG_END, pixel_parts
from service.domain.media.png_pixels import is_intact_png

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIZE = (3, 2)
ROWS = (b"\x01" + bytes(9)) * 2


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(packed: bytes, *, depth: int = 8, colour: int = 2, interlace: int = 0, before: bytes = b"") -> bytes:
    """Return an RGB image of SIZE with these compressed rows; `before` are chunks before them."""
    header = SIZE[0].to_bytes(4, "big") + SIZE[1].to_bytes(4, "big") + bytes([depth, colour, 0, 0, interlace])
    return SIGNATURE + chunk(b"IHDR", header) + before + chunk(b"IDAT", packed) + PNG_END


def is_intact(data: bytes) -> bool:
    """Return the result of the check."""
    return is_intact_png(pixel_parts(data), SIZE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_images_of_every_mode_need_no_decoder(mode: str) -> None:
    """A whole image of any colour type and depth is certainly intact, in one IDAT or many, with or without texts."""
    with BytesIO() as file:
        Image.effect_noise((301, 97), 90).convert("RGB" if mode == "P" else "L").convert(mode).save(file, "PNG")
        assert is_intact_png(pixel_parts(file.getvalue()), (301, 97))


@pytest.mark.parametrize(
    "data",
    [
        png(zlib.compress(ROWS[:-1])),
        png(zlib.compress(ROWS + b"\0")),
        png(zlib.compress(ROWS)[:-1]),
        png(zlib.compress(ROWS)[:-4] + b"sum!"),
        png(zlib.compress(b"\x05" + ROWS[1:])),
        png(zlib.compress(ROWS) + b"more"),
        png(zlib.compress(ROWS), interlace=1),
        png(zlib.compress(ROWS), depth=3),
        png(zlib.compress(ROWS), colour=5),
        png(zlib.compress(bytes(8)), colour=3),
        png(zlib.compress(bytes(8)), colour=3, before=chunk(b"PLTE", bytes(4))),
        png(zlib.compress(ROWS), before=chunk(b"ABCD", b"")),
        png(b""),
    ],
    ids=[
        "too few bytes",
        "too many bytes",
        "cut short",
        "wrong checksum",
        "unknown filter",
        "bytes behind the rows",
        "interlaced",
        "unknown depth",
        "unknown colour type",
        "no palette",
        "half a colour",
        "unknown critical chunk",
        "empty",
    ],
)
def test_doubtful_images_are_left_to_a_decoder(data: bytes) -> None:
    """Whatever is not certainly whole is not called intact."""
    assert not is_intact(data)


def test_image_between_the_cases_is_intact() -> None:
    """The image that the doubtful cases are made of is intact."""
    assert is_intact(png(zlib.compress(ROWS)))
    assert is_intact(png(zlib.compress(bytes(8)), colour=3, before=chunk(b"PLTE", bytes(6))))


def test_other_size_than_that_of_the_header_is_doubtful() -> None:
    """Memory was reserved for a size: an image of another one is not called intact."""
    assert not is_intact_png(pixel_parts(png(zlib.compress(ROWS))), (3, 3))
