"""Formats, sizes and truncation of files, read from their bytes without a library."""

from typing import Any

import pytest

from service.domain.media.file_headers import claimed_samples, image_size, is_truncated, sniff
from service.domain.media.limits import DataUri, InlineMedia, decoded_size, parse_data_uri
from tests.support.sample_media import image, video


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (image("PNG"), "png"),
        (image("JPEG"), "jpeg"),
        (image("WEBP"), "webp"),
        (image("GIF"), "gif"),
        (image("BMP"), "bmp"),
        (image("TIFF"), "tiff"),
        (video("mp4"), "mp4"),
        (video("mov"), "mov"),
        (video("avi"), "avi"),
        (video("matroska"), "matroska"),
        (b"\x00\x00\x00\x18ftyp3gp4", "3gp"),
        (b"\x00\x00\x00\x18ftypavif", "heif"),
        (b"\x00\x00\x00\x18ftypM4V ", "mp4"),
        (b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat", "mov"),
        (b"RIFF\x00\x00\x00\x00WAVE", "wav"),
        (b"RIFF", None),
        (b"plain text", None),
        (b"", None),
    ],
)
def test_format_is_detected_by_the_first_bytes(data: bytes, form: str | None) -> None:
    """Each format is detected by its signature; other data has no format."""
    assert sniff(data) == form


@pytest.mark.parametrize("size", [(1, 1), (160, 128), (128, 700), (3000, 17)])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"x" * 60_000}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0"}),
    ],
)
def test_image_size_is_read_from_the_header(form: str, size: tuple[int, int], options: dict[str, Any]) -> None:
    """Width and height are read from each variant of the three formats."""
    assert image_size(image(form, size, **options)) == size


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_truncated_header_has_no_size(form: str) -> None:
    """Too few bytes return None or the right size, and raise nothing."""
    data = image(form, (300, 200))
    assert {image_size(data[:length]) for length in range(len(data))} <= {None, (300, 200)}
    assert image_size(data[:20]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff" + b"\xff" * 1_000_000,
        b"\xff\xd8\xff\xe0\x00\x00" * 10,
        b"\xff\xd8\xff\xd9" + bytes(20),
        b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x00\x00\x00" + bytes(20),
    ],
)
def test_invalid_jpeg_is_read_in_bounded_time(data: bytes) -> None:
    """Fill bytes, empty segments, an early end and a frame without a size have no image size."""
    assert image_size(data) is None


@pytest.mark.parametrize("form", ["mp4", "mov", "avi"])
def test_truncation_is_detected(form: str) -> None:
    """A truncated container lacks the end of a required box; a complete one does not."""
    data = video(form)
    assert not is_truncated(data)
    assert is_truncated(data[:-1])
    assert is_truncated(data[: len(data) // 2])


def test_unknown_bytes_after_the_end_are_no_truncation() -> None:
    """Any bytes may follow the required boxes."""
    assert not is_truncated(video() + b"\x7f\xff\xff\xffjunkjunk")
    assert not is_truncated(video() + bytes(100))
    for more in (b"junk" * 50, b"\xff" * 40, b"<!-- proxy -->"):
        assert not is_truncated(video("avi") + more)
    for kind in (b"idx1", b"LIST", b"RIFF"):
        assert is_truncated(video("avi") + kind + b"\xff\xff\xff\x7f")


def test_large_box_sizes_are_read() -> None:
    """A box may state its size in 64 bits, or extend to the end of the file."""
    assert not is_truncated(b"\x00\x00\x00\x01mdat\x00\x00\x00\x00\x00\x00\x00\x14abcd")
    assert is_truncated(b"\x00\x00\x00\x01mdat\x00\x00\x00\x00\x00\x00\x00\x15abcd")
    assert not is_truncated(b"\x00\x00\x00\x00mdatabcd")


@pytest.mark.parametrize("size", range(8))
def test_decoded_size_is_computed_without_decoding(size: int) -> None:
    """The decoded size follows from the length of the base64."""
    text = InlineMedia(media_type="image/png", data=bytes(size)).data_uri()
    uri = parse_data_uri(text)
    assert uri == DataUri(media_type="image/png", body_at=22)
    assert decoded_size(text, uri) == size


@pytest.mark.parametrize("data", [b"\0\0\0\x08free" * 200_000, b"RIFF\0\0\0\0AVI " + b"JUNK\0\0\0\0" * 200_000])
def test_file_with_too_many_parts_counts_as_truncated(data: bytes) -> None:
    """The search ends before hundreds of thousands of empty parts are read."""
    assert is_truncated(data)


def test_long_text_without_a_comma_is_no_data_uri() -> None:
    """Only the first characters are searched for the head."""
    assert parse_data_uri("data:image/png" + ";a=b" * 1_000_000 + ";base64,AAAA") is None


@pytest.mark.parametrize("kind", [b"free", b"moov", b"mdat"])
def test_part_with_a_huge_declared_size_ends_with_the_file(kind: bytes) -> None:
    """A declared size of 64 bits is limited to the end of the file."""
    data = b"\0\0\0\x01" + kind + b"\xff" * 8 + b"stsz" + bytes(8) + b"\0\0\0\x07"
    assert claimed_samples(data) == (0 if kind == b"mdat" else 7)
