"""Pictures that decoders and viewers take, although something in them is large, unusual or damaged, are accepted."""

import struct
import zlib
from functools import partial
from io import BytesIO

import pytest
from PIL import Image, ImageFile, PngImagePlugin

from service.domain.media.file_headers import has_all_scans
from service.domain.media.image_parts import MAX_TEXT_BYTES, pixel_parts
from service.domain.media.limits import ImageFacts, Unreadable
from service.tasks.image_decoder import MAX_SCANS_COMPARED
from service.tasks.media_inspector import MediaInspector
from tests.support.sample_media import image

OPEN = MediaInspector()
PNG, JPEG, PROGRESSIVE = image("PNG"), image("JPEG"), image("JPEG", progressive=True)
HEADER_END = 33
NOTES = b'{"nodes": [{"type": "sampler"}]}' * 100_000


def chunk(kind: bytes, body: bytes, *, intact: bool = True) -> bytes:
    """Return one PNG chunk, with a wrong checksum unless `intact`."""
    checksum = zlib.crc32(kind + body) ^ (0 if intact else 1)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def with_chunk(kind: bytes, body: bytes, *, intact: bool = True) -> bytes:
    """Return a PNG with one more chunk after its header."""
    return PNG[:HEADER_END] + chunk(kind, body, intact=intact) + PNG[HEADER_END:]


def with_segment(marker: int, body: bytes, times: int = 1) -> bytes:
    """Return a JPEG with more metadata segments after its start."""
    return JPEG[:2] + (struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body) * times + JPEG[2:]


def deep_png(colour: int, channels: int) -> bytes:
    """Return a PNG of 16 bits a channel, which Pillow cannot write."""
    header = struct.pack(">IIBBBBB", 160, 128, 16, colour, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(160 * channels * 2)) * 128)
    return PNG[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def ycck() -> bytes:
    """Return a CMYK JPEG whose Adobe marker says YCCK, as Photoshop writes it."""
    data = bytearray(image("JPEG", mode="CMYK"))
    at = data.index(b"Adobe")
    data[at + 11] = 2
    return bytes(data)


def mpo() -> bytes:
    """Return a stereo photo of two frames."""
    buffer = BytesIO()
    with Image.open(BytesIO(JPEG)) as first, Image.open(BytesIO(PROGRESSIVE)) as second:
        first.save(buffer, "MPO", save_all=True, append_images=[second])
    return buffer.getvalue()


PICTURES = {
    "workflow notes of 3 MB": with_chunk(b"tEXt", b"workflow\0" + NOTES),
    "compressed notes of 3 MB": with_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(NOTES)),
    "international notes of 3 MB": with_chunk(b"iTXt", b"workflow\0\1\0en\0\0" + zlib.compress(NOTES)),
    "notes behind the pixels": PNG[:-12] + chunk(b"zTXt", b"a\0\0" + zlib.compress(NOTES)) + PNG[-12:],
    "many notes": PNG[:HEADER_END] + chunk(b"tEXt", b"a\0" + bytes(5000)) * 1000 + PNG[HEADER_END:],
    "colour profile of 3 MB": with_chunk(b"iCCP", b"wide\0\0" + zlib.compress(NOTES)),
    "colour profile that is none": with_chunk(b"iCCP", b"wide\0\0nothing"),
    "EXIF of 1 MB in a PNG": with_chunk(b"eXIf", bytes(1_000_000)),
    "wrong checksum of the resolution": with_chunk(b"pHYs", bytes(9), intact=False),
    "wrong checksum of a text": with_chunk(b"tEXt", b"a\0b", intact=False),
    "wrong checksum of the transparency": with_chunk(b"tRNS", bytes(6), intact=False),
    "resolution that is too short": with_chunk(b"pHYs", b""),
    "gamma that is too short": with_chunk(b"gAMA", b"\0"),
    "animation control that is too short": with_chunk(b"acTL", b"\0"),
    "PNG without its end": PNG[:-12],
    "PNG without its last checksum": PNG[:-4],
    "16 bits of colour": deep_png(2, 3),
    "16 bits of grey with transparency": deep_png(4, 2),
    "16 bits of colour with transparency": deep_png(6, 4),
    "palette with transparency": image("PNG", mode="P", transparency=0),
    "JPEG without its last byte": JPEG[:-1],
    "JPEG without its last two bytes": JPEG[:-2],
    "progressive JPEG without its last two bytes": PROGRESSIVE[:-2],
    "CMYK JPEG without its last two bytes": image("JPEG", mode="CMYK")[:-2],
    "JPEG with bytes behind its end": JPEG + b"MotionPhoto" * 1000,
    "YCCK": ycck(),
    "stereo photo": mpo(),
    "EXIF of 2 MB": with_segment(0xE1, b"Exif\0\0" + bytes(60_000), times=35),
    "EXIF that is damaged": with_segment(0xE1, b"Exif\0\0" + b"junk" * 10),
    "colour profile that is damaged": with_segment(0xE2, b"ICC_PROFILE\0\0\0" + b"junk" * 10),
    "index of frames that is damaged": with_segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + b"\xff" * 32),
    "JFIF header that is too short": with_segment(0xE0, b"JFIF\0"),
    "Adobe header that is too short": with_segment(0xEE, b"Adobe"),
    "lossy animation": image("WEBP", save_all=True, append_images=[Image.new("RGB", (160, 128), "red")] * 3),
    "WebP with EXIF": image("WEBP", exif=b"Exif\0\0" + bytes(100_000)),
    "WebP with bytes behind its end": image("WEBP") + bytes(100),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.filterwarnings("error")
def test_picture_is_accepted(name: str) -> None:
    """Viewers show each of these pictures, so it is accepted, and nothing about it is printed as a warning."""
    facts = OPEN.image(PICTURES[name])
    assert facts is not None
    assert (facts.width, facts.height) == (160, 128)


CRITICAL = with_chunk(b"PLTE", bytes(3), intact=False)
CUT_PIXELS = PNG[: PNG.index(b"IDAT") + 20]


def bomb(kind: bytes, head: bytes, *sizes: int) -> bytes:
    """Return a PNG with chunks whose texts unpack to these numbers of bytes."""
    chunks = b"".join(chunk(kind, head + zlib.compress(bytes(size))) for size in sizes)
    return PNG[:HEADER_END] + chunks + PNG[HEADER_END:]


BOMBS = {
    "text": partial(bomb, b"zTXt", b"a\0\0", MAX_TEXT_BYTES + 1),
    "international text": partial(bomb, b"iTXt", b"a\0\1\0\0\0", MAX_TEXT_BYTES + 1),
    "colour profile": partial(bomb, b"iCCP", b"a\0\0", MAX_TEXT_BYTES + 1),
    "texts together": partial(bomb, b"zTXt", b"a\0\0", *[MAX_TEXT_BYTES // 2 + 1] * 2),
}
"""Made by the test that needs them: to compress so much takes a second."""


@pytest.mark.parametrize("data", [CRITICAL, CUT_PIXELS, PNG[:HEADER_END]], ids=["checksum", "cut", "no pixels"])
def test_damaged_critical_parts_of_a_png_are_refused(data: bytes) -> None:
    """A wrong checksum of a critical chunk and missing pixels are damage that decoders report too."""
    with pytest.raises(Unreadable):
        OPEN.image(data)


@pytest.mark.parametrize("name", BOMBS)
def test_texts_that_unpack_to_more_than_64_mb_are_refused(name: str) -> None:
    """Decoders that unpack texts refuse so much; here it is counted and not kept."""
    data = BOMBS[name]()
    with pytest.raises(Unreadable, match="too large when unpacked"):
        OPEN.image(data)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, image("JPEG", mode="CMYK")], ids=["plain", "progressive", "CMYK"])
@pytest.mark.parametrize("missing", [0.05, 0.2, 0.5, 0.8])
def test_jpeg_that_lacks_pixels_is_refused(data: bytes, missing: float) -> None:
    """The tolerance for a missing end mark does not extend to missing pixels."""
    with pytest.raises(Unreadable):
        OPEN.image(data[: -int(len(data) * missing)])


def test_jpeg_that_ends_between_two_scans_is_refused() -> None:
    """A progressive JPEG without its last scan would decode without a complaint, to a coarse picture."""
    assert has_all_scans(PROGRESSIVE)
    assert has_all_scans(JPEG)
    coarse = PROGRESSIVE[: PROGRESSIVE.rindex(b"\xff\xc4")]
    assert not has_all_scans(coarse)
    with pytest.raises(Unreadable):
        OPEN.image(coarse)


def test_jpeg_of_many_scans_needs_its_end() -> None:
    """What takes long to decode once is not decoded again for a missing end mark."""
    scan = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
    many = PROGRESSIVE[:-2] + scan * MAX_SCANS_COMPARED
    assert OPEN.image(many + b"\xff\xd9")
    with pytest.raises(Unreadable):
        OPEN.image(many)


def test_globals_of_pillow_stay_as_they_are() -> None:
    """Other threads and handlers use Pillow too: its limits and its tolerance are not changed for them."""
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    for data in PICTURES.values():
        OPEN.image(data)
    now = (ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    assert now == before == (False, 1024 * 1024, 64 * 1024 * 1024)


def test_parts_are_not_copied() -> None:
    """A picture of many megabytes is decoded from views of its bytes."""
    for data in (PNG, JPEG, image("WEBP")):
        views = pixel_parts(data)
        assert all(view.obj is data for view in views[:-1])
        assert sum(map(len, views)) <= len(data)


def test_animation_is_decoded_as_its_first_picture() -> None:
    """The frames of an animated PNG take the decoder no time: only the picture that viewers show first is decoded."""
    frames = [Image.new("RGB", (160, 128), colour) for colour in ("red", "green", "blue")]
    data = image("PNG", save_all=True, append_images=frames)
    assert b"fdAT" in data
    assert not any(b"fdAT" in view for view in map(bytes, pixel_parts(data)))
    assert OPEN.image(data) == ImageFacts(format="png", width=160, height=128)
