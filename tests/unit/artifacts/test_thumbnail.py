"""Small pictures of stored files, also of hostile ones, within bounds."""

import io
from fractions import Fraction

import pytest
from PIL import Image

from service.artifacts import thumbnail as module
from service.artifacts.bounded_file import BoundedFile, ReadLimit
from service.artifacts.thumbnail import MAX_BYTES, make_thumbnail
from service.domain.media.limits import Unreadable
from tests.support.sample_media import image, sound, video

HUGE = (28).to_bytes(4, "big") + b"moov" + b"stsz" + bytes(8) + (2**31).to_bytes(4, "big") + bytes(4)


def made(data: bytes, media_type: str = "video/mp4") -> Image.Image:
    """Return the thumbnail of a file, opened."""
    jpeg = make_thumbnail(lambda start, stop: data[start:stop], len(data), media_type)
    assert len(jpeg) < MAX_BYTES
    picture = Image.open(io.BytesIO(jpeg), formats=["JPEG"])
    picture.load()
    return picture


@pytest.mark.parametrize(
    ("data", "media_type", "size"),
    [
        (video(), "video/mp4", (128, 128)),
        (video(size=(640, 360)), "video/mp4", (320, 180)),
        (video(size=(360, 640)), "video/mp4", (180, 320)),
        (video("webm", codec="libvpx", rate=Fraction(24)), "video/webm", (128, 128)),
        (image("PNG", (1000, 10)), "image/png", (320, 3)),
        (image("JPEG", (400, 800)), "image/jpeg", (160, 320)),
        (image("WEBP"), "image/webp", (160, 128)),
    ],
)
def test_size(data: bytes, media_type: str, size: tuple[int, int]) -> None:
    """The longer side has at most 320 pixels, and the proportions stay."""
    assert made(data, media_type).size == size


def test_photos_are_upright() -> None:
    """The orientation that a camera recorded is applied."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert made(image("JPEG", (200, 100), exif=exif), "image/jpeg").size == (100, 200)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (sound(), "video/mp4"),
        (video()[:600], "video/mp4"),
        (b"\0\0\0\x10ftypisom" + bytes(5000), "video/mp4"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "video/mp4"),
        (video() + HUGE, "video/mp4"),
        (video()[:32] + b"\xff" * 9000, "video/mp4"),
        (image("PNG")[:60], "image/png"),
        (image("PNG", (5000, 5000)), "image/png"),
        (image("PNG"), "image/jpeg"),
        (video(), "image/png"),
        (b"", "video/mp4"),
    ],
)
def test_files_without_a_picture(data: bytes, media_type: str) -> None:
    """Damaged and hostile files, and files of another type, have no thumbnail and raise nothing else."""
    with pytest.raises(Unreadable):
        made(data, media_type)


def test_reads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that reads too much, or for too long, gets an error from its file."""
    file = BoundedFile(lambda start, stop: bytes(stop - start), 10**9, most=10_000, seconds=60)
    for _ in range(10):
        assert file.read(1000) == bytes(1000)
    with pytest.raises(ReadLimit):
        file.read(1000)
    late = BoundedFile(lambda start, stop: bytes(stop - start), 10**9, most=10_000, seconds=-1)
    with pytest.raises(ReadLimit):
        late.read(1)
    monkeypatch.setattr(module, "SECONDS", -1.0)
    with pytest.raises(Unreadable):
        made(video())


def test_boxes_without_end_are_bounded() -> None:
    """A file of a million tiny boxes is refused after some thousands."""
    with pytest.raises(Unreadable, match="too many parts"):
        made(((8).to_bytes(4, "big") + b"free") * 100_000)


def test_only_the_beginning_of_a_long_video_is_read() -> None:
    """The picture is made without the rest of the file."""
    data = video() + (50_000_000).to_bytes(4, "big") + b"free" + bytes(49_999_992)
    read = []

    def read_at(start: int, stop: int) -> bytes:
        read.append(stop - start)
        return data[start:stop]

    make_thumbnail(read_at, len(data), "video/mp4")
    assert sum(read) < 5_000_000
