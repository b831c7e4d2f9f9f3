"""Files of many small parts, each of which takes a decoder a pass over the whole image."""

import struct
import zlib
from fractions import Fraction
from io import BytesIO

import av
import pytest
from PIL import Image

from service.domain.media.file_headers import has_too_many_parts, scan_count
from service.domain.media.limits import ImageFacts, Unreadable
from service.tasks.media_inspector import MAX_SLICE_PIXELS, MediaInspector
from tests.support.sample_media import image, video

OPEN = MediaInspector()
SCAN = b"\xff\xda"
CHUNK = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))


def progressive(scans: int, size: tuple[int, int] = (160, 128)) -> bytes:
    """Return a progressive JPEG with its last scan `scans` times more."""
    data = image("JPEG", size, progressive=True)
    last = data[data.rindex(SCAN) : -2]
    return data[:-2] + last * scans + data[-2:]


def before(data: bytes, mark: bytes, more: bytes) -> bytes:
    """Return `data` with `more` before the first `mark`."""
    at = data.index(mark)
    return data[:at] + more + data[at:]


def mjpeg_video(frame: bytes, side: int) -> bytes:
    """Return a video of one JPEG frame."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mjpeg", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = side
        stream.pix_fmt = "yuvj420p"
        packet = av.Packet(frame)
        packet.stream, packet.pts, packet.dts, packet.duration = stream, 0, 0, 1
        packet.time_base = Fraction(1, 10)
        container.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize("more", [b"", b"\xff\xda is part of a comment"])
def test_scans_are_counted(more: bytes) -> None:
    """The marker of a scan in a comment is not counted."""
    data = progressive(5)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(more)) + more
    assert scan_count(before(data, b"\xff\xdb", comment)) == scan_count(image("JPEG", progressive=True)) + 5


@pytest.mark.parametrize(
    "data",
    [
        progressive(200),
        before(image("JPEG"), SCAN, b"\xff\xe1\x00\x02" * 20_000),
        before(image("JPEG"), SCAN, b"\xff" * 20_000),
        before(image("JPEG"), SCAN, b"\x00" * 20_000),
        before(image("PNG"), b"\x00\x00\x00\x0dIHDR", b"")[:33] + CHUNK * 60_000 + image("PNG")[33:],
        image("PNG")[:-12] + CHUNK * 60_000 + image("PNG")[-12:],
    ],
    ids=["scans", "segments", "fill bytes", "invalid bytes", "chunks", "chunks after the pixels"],
)
def test_image_with_too_many_parts_is_refused_without_decoding(data: bytes) -> None:
    """More parts than a real image has are refused before decoding."""
    assert has_too_many_parts(data)
    with pytest.raises(Unreadable, match="more parts than an image has"):
        OPEN.image(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_bytes_after_the_end_of_an_image_are_ignored(form: str) -> None:
    """Phones append videos to their photos."""
    data = image(form) + video("mp4") * 3 + bytes(1_000_000)
    assert not has_too_many_parts(data)
    if form != "WEBP":
        assert OPEN.image(data) == ImageFacts(format=form.lower(), width=160, height=128)


def test_real_progressive_photo_passes() -> None:
    """Encoders write about ten scans."""
    assert OPEN.image(image("JPEG", progressive=True)) == ImageFacts(format="jpeg", width=160, height=128)


@pytest.mark.parametrize("scans", [MAX_SLICE_PIXELS // 1024**2, MAX_SLICE_PIXELS // 1024**2 * 10])
def test_video_with_frames_of_many_scans_is_refused(scans: int) -> None:
    """A frame whose scans cover too many pixels in total is not decoded."""
    with pytest.raises(Unreadable, match="too many slices"):
        OPEN.video(mjpeg_video(progressive(scans, (1024, 1024)), 1024))


def test_video_with_frames_of_few_scans_is_accepted() -> None:
    """A video of progressive frames is accepted."""
    found = OPEN.video(mjpeg_video(progressive(0, (256, 256)), 256))
    assert found is not None
    assert (found.width, found.height) == (256, 256)


@pytest.mark.parametrize("codec", ["mpeg4", "h264", "hevc", "mpeg2video"])
def test_video_of_each_codec_is_accepted(codec: str) -> None:
    """Probing without decoding finds size and length."""
    found = OPEN.video(video("mov", codec=codec, size=(256, 256), rate=25))
    assert found is not None
    assert (found.width, found.height, round(found.seconds, 2)) == (256, 256, 0.4)


def test_h264_video_with_many_slices_is_refused() -> None:
    """Slices are counted by their start codes, which the lengths in the container cannot hide."""
    frame = av.CodecContext.create("libx264", "w")
    assert isinstance(frame, av.VideoCodecContext)
    frame.width = frame.height = 2048
    frame.pix_fmt, frame.time_base = "yuv420p", Fraction(1, 10)
    frame.options = {"preset": "ultrafast", "x264-params": "slices=2"}
    with Image.new("RGB", (2048, 2048), (80, 80, 80)) as grey:
        picture = av.VideoFrame.from_image(grey)  # type: ignore[no-untyped-call] # PyAV leaves it untyped
    whole = b"".join(bytes(packet) for packet in [*frame.encode(picture), *frame.encode(None)])
    last = whole[whole.rindex(b"\0\0\1") :]
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 2048
        stream.pix_fmt = "yuv420p"
        packet = av.Packet(whole + last * 1000)
        packet.stream, packet.pts, packet.dts, packet.duration = stream, 0, 0, 1
        packet.time_base, packet.is_keyframe = Fraction(1, 10), True
        container.mux(packet)
    with pytest.raises(Unreadable, match="too many slices"):
        OPEN.video(buffer.getvalue())
