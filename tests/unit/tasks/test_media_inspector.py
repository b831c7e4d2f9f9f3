"""The inspector opens real files with Pillow and PyAV, refuses hostile ones, and reports missing libraries."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import pytest

from service.domain.media.limits import ImageFacts, Unreadable, VideoFacts
from service.tasks import media_inspector as media
from service.tasks.media_inspector import MAX_DECODED_PIXELS, MediaInspector, inspector, missing_extras
from tests.support.bombs import zlib_bomb
from tests.support.sample_media import image, sound, video

OPEN = MediaInspector()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return one PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, packed: bytes) -> bytes:
    """Return an 8-bit grey PNG with a valid structure and the compressed pixels `packed`."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


GREY = png(130, 130, zlib.compress(bytes(131 * 130)))


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (image("PNG", mode="I;16"), "png"),
        (image("PNG", mode="1"), "png"),
        (image("PNG", mode="P"), "png"),
        (image("PNG", mode="RGBA"), "png"),
        (image("JPEG", mode="CMYK"), "jpeg"),
        (image("JPEG", mode="L"), "jpeg"),
        (image("JPEG", progressive=True), "jpeg"),
        (image("WEBP", lossless=True), "webp"),
        (image("WEBP", mode="RGBA"), "webp"),
    ],
)
def test_unusual_images_are_accepted(data: bytes, form: str) -> None:
    """Sixteen bits, palettes, CMYK and transparency are within the documented formats."""
    assert OPEN.image(data) == ImageFacts(format=form, width=160, height=128)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_animated_images_are_accepted(form: str) -> None:
    """An animation is accepted as an image."""
    from PIL import Image  # noqa: PLC0415 - only this test needs a second picture

    with Image.new("RGB", (160, 128), "red") as second:
        data = image(form, save_all=True, append_images=[second])
    assert OPEN.image(data) == ImageFacts(format=form.lower(), width=160, height=128)


def test_rotated_photograph_is_accepted() -> None:
    """A photograph with an EXIF rotation is accepted; the limits do not depend on the orientation."""
    from PIL import Image  # noqa: PLC0415 - only this test needs EXIF

    exif = Image.Exif()
    exif[0x0112] = 6
    assert OPEN.image(image("JPEG", exif=exif)) == ImageFacts(format="jpeg", width=160, height=128)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_truncated_images_are_refused(form: str) -> None:
    """Half an image is unreadable, although its header is complete."""
    data = image(form, mode="RGB")
    with pytest.raises(Unreadable):
        OPEN.image(data[: len(data) // 2])


def test_image_with_invalid_pixels_is_refused() -> None:
    """A PNG with valid chunks and invalid pixels is decoded and refused."""
    assert OPEN.image(GREY)
    with pytest.raises(Unreadable):
        OPEN.image(png(130, 130, b"no pixels at all"))


def test_only_the_header_of_large_images_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel over the cap nothing is decoded: a decompression bomb costs nothing, and its size is no fault here."""
    decoded: list[str] = []

    def decode(_: bytes, form: str, size: tuple[int, int]) -> None:
        assert size == (4096, 4096)
        decoded.append(form)

    monkeypatch.setattr(media, "decode_image", decode)
    assert OPEN.image(png(4096, 4096, b"")) == ImageFacts(format="png", width=4096, height=4096)
    assert decoded == ["PNG"]
    assert OPEN.image(png(4097, 4096, b"")) == ImageFacts(format="png", width=4097, height=4096)
    assert OPEN.image(png(2**31 - 1, 2**31 - 1, b""))
    assert decoded == ["PNG"]
    assert MAX_DECODED_PIXELS == 4096 * 4096


def test_image_with_two_sizes_is_refused() -> None:
    """A second header must not lead to more decoded pixels than the first one reserved."""
    small, large = png(1, 1, b""), png(1000, 1000, zlib.compress(bytes(1000 * 1001)))
    header = slice(8, 8 + 25)
    with pytest.raises(Unreadable):
        MediaInspector().image(large[:8] + small[header] + large[8:])


def test_text_bomb_in_an_image_is_refused() -> None:
    """A comment that decompresses to 80 MB is not decompressed."""
    bomb = chunk(b"zTXt", b"a\0\0" + zlib_bomb(b"\0", 77))
    with pytest.raises(Unreadable):
        OPEN.image(GREY[:33] + bomb + GREY[33:])


@pytest.mark.parametrize("form", ["mp4", "mov", "avi"])
def test_facts_of_videos_are_read(form: str) -> None:
    """Size and length of each container are those that were written."""
    data = video(form, size=(160, 128), frames=25)
    assert OPEN.video(data) == VideoFacts(format=form, width=160, height=128, seconds=2.5)


def test_codec_that_reorders_frames_is_read() -> None:
    """H.264 with reordered frames decodes, and its length is exact."""
    facts = OPEN.video(video(codec="libx264", frames=30, rate=Fraction(30000, 1001)))
    assert facts
    assert facts.seconds == pytest.approx(1.001)


def test_length_is_measured_by_the_packets() -> None:
    """The length is that of eight seconds of frames, although the header states half a second."""
    data = bytearray(video(frames=80))
    for box in (b"mvhd", b"mdhd"):
        at = data.index(box) + 4
        scale = int.from_bytes(data[at + 12 : at + 16], "big")
        data[at + 16 : at + 20] = (scale // 2).to_bytes(4, "big")
    facts = OPEN.video(bytes(data))
    assert facts
    assert facts.seconds == pytest.approx(8.0)


@pytest.mark.parametrize("form", ["mp4", "mov", "avi"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7])
def test_truncated_videos_are_refused(form: str, keep: float) -> None:
    """A video without its end is unreadable, although its header is complete."""
    data = video(form, frames=40)
    with pytest.raises(Unreadable):
        OPEN.video(data[: int(len(data) * keep)])


def test_part_that_declares_gigabytes_is_refused_unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that declares two gigabytes never reaches the library, which would reserve them."""
    monkeypatch.setattr(media, "_decode_video", lambda *_: pytest.fail("opened"))
    data = bytearray(video("avi"))
    at = data.index(b"strf") + 4
    data[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
    with pytest.raises(Unreadable, match="cut short"):
        OPEN.video(bytes(data))


@pytest.mark.parametrize(
    "box",
    [b"stsz" + bytes(8), b"stz2" + bytes(8), b"trun" + bytes(4), b"stsz" + bytes(3) + b"trun" + bytes(4)],
)
@pytest.mark.parametrize("outer", [b"moov", b"free", b"\xa9xyz"])
def test_index_that_declares_millions_of_samples_is_refused_unopened(
    monkeypatch: pytest.MonkeyPatch, box: bytes, outer: bytes
) -> None:
    """A table that declares millions of samples never reaches the library, in any box."""
    opened: list[str] = []
    monkeypatch.setattr(media, "_decode_video", lambda _, form: opened.append(form))
    for count, reaches in ((1_999_980, True), (2_000_001, False)):
        body = box + struct.pack(">I", count)
        data = video() + struct.pack(">I", len(body) + 8) + outer + body
        if reaches:
            OPEN.video(data)
        else:
            with pytest.raises(Unreadable, match="index claims"):
                OPEN.video(data)
    assert opened == ["mp4"]


def test_compressed_index_is_refused() -> None:
    """An index that must be decompressed first may declare any number of samples."""
    with pytest.raises(Unreadable, match="index claims"):
        OPEN.video(video() + b"\x00\x00\x00\x10moov\x00\x00\x00\x08cmov")


def test_names_of_tables_in_media_data_are_ignored() -> None:
    """Pixels may contain the name of a table."""
    extra = b"stsz" + b"\xff" * 12
    assert OPEN.video(video() + struct.pack(">I", len(extra) + 8) + b"mdat" + extra)


def test_video_with_invalid_frames_is_refused() -> None:
    """A valid container of invalid frames is refused, because the first frame is decoded."""
    data = video("avi", frames=5)
    start = data.index(b"movi")
    end = data.index(b"idx1")
    corrupted = bytearray(data)
    at = start + 4
    while at < end - 8:
        size = int.from_bytes(corrupted[at + 4 : at + 8], "little")
        corrupted[at + 8 : at + 8 + size] = bytes(size)
        at += 8 + size + size % 2
    with pytest.raises(Unreadable):
        OPEN.video(bytes(corrupted))


def test_audio_alone_is_no_video() -> None:
    """A container without a video stream is unreadable as a video."""
    with pytest.raises(Unreadable, match="holds no video"):
        OPEN.video(sound())


def test_lists_of_other_addresses_are_never_followed(tmp_path: Path) -> None:
    """Formats that make FFmpeg open further files are not opened."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video())
    for text in (f"#EXTM3U\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n", f"ffconcat version 1.0\nfile {clip}\n"):
        with pytest.raises(Unreadable):
            OPEN.video(text.encode())


def test_too_many_packets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of packets that are read is bounded."""
    monkeypatch.setattr(media, "MAX_PACKETS", 9)
    assert OPEN.video(video(frames=9))
    with pytest.raises(Unreadable, match="more than 9 frames"):
        OPEN.video(video(frames=10))


def test_large_frames_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the cap on pixels only the header of a video is checked."""
    monkeypatch.setattr(media, "MAX_DECODED_PIXELS", 128 * 128 - 1)
    data = bytearray(video("avi", frames=3))
    start, end = data.index(b"movi") + 12, data.index(b"idx1")
    data[start : start + 40] = bytes(40)  # the first frame cannot be decoded, and is not
    assert end > start + 40
    assert OPEN.video(bytes(data)) == VideoFacts(format="avi", width=128, height=128, seconds=0.3)


@pytest.mark.parametrize(
    ("installed", "missing"),
    [({"PIL", "av"}, ()), ({"PIL"}, ("av",)), ({"av"}, ("pillow",)), (set(), ("pillow", "av"))],
)
def test_missing_libraries_are_named(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], missing: tuple[str, ...]
) -> None:
    """The startup log names missing libraries, and media of a kind without a library are not opened."""
    monkeypatch.setattr(media, "find_spec", lambda name: name if name in installed else None)
    assert missing_extras() == missing
    found = inspector()
    assert (found is None) == (len(missing) == 2)
    if found:
        assert (found.image(image()) is None) == ("pillow" in missing)
        assert (found.video(video()) is None) == ("av" in missing)


def test_everything_is_installed_here() -> None:
    """The tests open files with the real libraries."""
    assert missing_extras() == ()
    assert inspector() == MediaInspector()
