"""Open inline media for real: images with Pillow, videos with PyAV. Both are optional (the extra `media`).

The bytes come from strangers. A file is only ever opened as the format that its first bytes claim, never by trial
(some of FFmpeg's formats are lists of other addresses to open); nothing beside the given bytes is opened; at most
`MAX_DECODED_PIXELS` are decoded, of all files together, so that memory stays bounded; whatever a decoder does not
like becomes `Unreadable`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, NoReturn

from service.concurrency.pixel_semaphore import PixelSemaphore
from service.domain.media.file_headers import claimed_samples, image_size, is_cut_short, is_shredded, scan_count, sniff
from service.domain.media.limits import ImageFacts, Inspector, Unreadable, VideoFacts

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_DECODED_PIXELS = 16 * 1024 * 1024  # 64 MB as RGBA; what is larger is judged by its header alone
MAX_PACKETS = 50_000  # 8 seconds at 1,000 frames a second are 8,000
MAX_SAMPLES = 2_000_000  # 8 seconds of plain 192 kHz sound are 1.5 million; each costs FFmpeg some 24 bytes
MAX_DECODE_TRIES = 64  # more than any codec holds back before its first frame
MAX_PIXELS_WORKED = 2 * 1024**3  # by slices that may each cover the whole frame: a second or two

_IMAGE_FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
_VIDEO_FORMATS = {"mp4": "mov", "mov": "mov", "avi": "avi"}
_EXTRAS = {"PIL": "pillow", "av": "av"}
_START_CODE = b"\0\0\1"
_PLAIN = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb", "mpeg1video": "null", "mpeg2video": "null"}
"""Codecs whose slices begin with a start code, once FFmpeg's filter has put it there."""

_CODEC_OPTIONS = {"max_pixels": str(MAX_DECODED_PIXELS), "threads": "1"}
_budget = PixelSemaphore(MAX_DECODED_PIXELS)


def missing_extras() -> tuple[str, ...]:
    """Return the distributions of the extra `media` that are not installed; what they open is checked less deeply."""
    return tuple(name for module, name in _EXTRAS.items() if find_spec(module) is None)


def inspector() -> Inspector | None:
    """Return what opens media here, or None when there is no library to do it."""
    missing = missing_extras()
    found = MediaInspector(images="pillow" not in missing, videos="av" not in missing)
    return found if found.images or found.videos else None


@dataclass(frozen=True, kw_only=True)
class MediaInspector:
    """Opens the kinds of media that it has a library for; for the other kind it answers None. Safe in threads."""

    images: bool = True
    videos: bool = True

    def image(self, data: bytes) -> ImageFacts | None:
        """Return what the image in `data` is, after decoding it where that is cheap; raise `Unreadable`."""
        if not self.images:
            return None
        form, size = sniff(data), image_size(data)
        if form not in _IMAGE_FORMATS or size is None:
            raise Unreadable("its header is damaged")
        if is_shredded(data):
            raise Unreadable("it is cut into more parts than an image has")
        pixels = size[0] * size[1]
        if pixels <= MAX_DECODED_PIXELS:
            with _guarded(pixels):
                _decode_image(data, _IMAGE_FORMATS[form], size)
        return ImageFacts(format=form, width=size[0], height=size[1])

    def video(self, data: bytes) -> VideoFacts | None:
        """Return what the video in `data` is, after decoding its first frame; raise `Unreadable`."""
        if not self.videos:
            return None
        form = sniff(data)
        if form not in _VIDEO_FORMATS:
            raise Unreadable("its header is damaged")
        if is_cut_short(data):
            raise Unreadable("it is cut short")
        if claimed_samples(data) > MAX_SAMPLES:
            raise Unreadable(f"its index claims more than {MAX_SAMPLES:,} samples")
        with _guarded(_budget.total):
            return _decode_video(data, form)


@contextmanager
def _guarded(pixels: int) -> Iterator[None]:
    """Have a file decoded once so many pixels may be, and turn whatever that raises into `Unreadable`."""
    try:
        with _budget.hold(pixels):
            yield
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable("it is damaged or cut short") from error


def _decode_image(data: bytes, form: str, size: tuple[int, int]) -> None:
    """Go through an image whose header names its `size` in pixels; `data` is not copied.

    Raises whatever the decoder does not like, and Unreadable for one that has another size to it than to us: room was
    kept for as many pixels as we have read of.
    """
    from PIL import Image  # noqa: PLC0415 - several MB that only a process which checks media needs

    if form == "PNG":  # the only one with checksums, which its decoder does not look at
        with Image.open(BytesIO(data), formats=[form]) as image:
            image.verify()
    with Image.open(BytesIO(data), formats=[form]) as image:
        if image.size != size:
            raise Unreadable("its header is damaged")
        image.draft("RGB", (1, 1))  # a JPEG is read to its end, but made into pixels at an eighth of its size
        image.load()


def _decode_video(data: bytes, form: str) -> VideoFacts:
    import av  # noqa: PLC0415 - tens of MB that only a process which checks videos needs

    with av.open(
        BytesIO(data),
        "r",
        format=_VIDEO_FORMATS[form],
        options={**_CODEC_OPTIONS, "skip_frame": "all"},  # while it looks around; what is decoded is weighed first
        metadata_errors="replace",
        io_open=_refuse,
    ) as container:
        stream = next((each for each in container.streams.video if not _is_cover(each)), None)
        if stream is None:
            raise Unreadable("it holds no video")
        stream.codec_context.options = dict(_CODEC_OPTIONS)
        reading = _Reading(stream=stream, decode=stream.width * stream.height <= MAX_DECODED_PIXELS)
        reading.run(container)
        return VideoFacts(format=form, width=reading.width, height=reading.height, seconds=reading.seconds())


def _refuse(*_: object) -> NoReturn:
    """Refuse to open whatever a file refers to."""
    raise OSError("a file may not open others")


def _is_cover(stream: "VideoStream") -> bool:
    """Return whether a stream is only the picture on the cover."""
    return bool(stream.disposition & stream.disposition.attached_pic)


def _slice_count(stream: "VideoStream", data: bytes) -> int:
    """Return at most how many times decoding `data` may go over the frame."""
    from av.bitstream import BitStreamFilterContext  # noqa: PLC0415 - see `_decode_video`
    from av.packet import Packet  # noqa: PLC0415 - see `_decode_video`

    codec = stream.codec_context.name
    if codec == "mjpeg":
        return scan_count(data)
    if codec not in _PLAIN or not data:
        return 1
    plain = BitStreamFilterContext(_PLAIN[codec], stream).filter(Packet(data))
    return sum(bytes(packet).count(_START_CODE) for packet in plain)


@dataclass(kw_only=True)
class _Reading:
    """Read the packets of one stream: how long they really last, whatever the header says, and what a frame is."""

    stream: "VideoStream"
    decode: bool
    start: int | None = None
    end: int | None = None
    slices: int = 0
    frame: "VideoFrame | None" = None

    def run(self, container: "InputContainer") -> None:
        """Read all packets; decode until the first frame."""
        for count, packet in enumerate(container.demux(self.stream)):
            if count > MAX_PACKETS:
                raise Unreadable(f"it holds more than {MAX_PACKETS:,} frames")
            if packet.is_corrupt:
                raise Unreadable("it is cut short")
            self._time(packet)
            if self.decode and self.frame is None and (count < MAX_DECODE_TRIES or not packet.size):
                self._weigh(packet)
                self.frame = next(iter(self._frames(packet)), None)
        if self.decode and self.frame is None:
            raise Unreadable("none of its frames can be decoded")

    def _weigh(self, packet: "Packet[VideoStream]") -> None:
        """Refuse frames of so many slices that decoding the first one would take minutes: a few bytes make one."""
        self.slices += _slice_count(self.stream, bytes(packet))
        if self.slices * self.stream.width * self.stream.height > MAX_PIXELS_WORKED:
            raise Unreadable("its frames are cut into too many slices")

    def _time(self, packet: "Packet[VideoStream]") -> None:
        at = packet.dts if packet.pts is None else packet.pts
        if at is None or packet.is_discard:
            return
        end = at + (packet.duration or self._frame_ticks())
        self.start = at if self.start is None else min(self.start, at)
        self.end = end if self.end is None else max(self.end, end)

    def _frame_ticks(self) -> int:
        """Return how long a frame is in the stream's time base when its packet does not say."""
        rate, base = self.stream.average_rate, self.stream.time_base
        return round(1 / (rate * base)) if rate and base else 0

    @staticmethod
    def _frames(packet: "Packet[VideoStream]") -> "list[VideoFrame]":
        """Return the frames that a packet completes; a frame that leans on ones before the file's start has none."""
        from av.error import InvalidDataError  # noqa: PLC0415 - see `_decode_video`

        try:
            return packet.decode()
        except InvalidDataError:
            return []

    @property
    def width(self) -> int:
        """Width in pixels, of the decoded frame where there is one."""
        return self.frame.width if self.frame else self.stream.width

    @property
    def height(self) -> int:
        """Height in pixels, of the decoded frame where there is one."""
        return self.frame.height if self.frame else self.stream.height

    def seconds(self) -> float:
        """Return the length in seconds."""
        if self.start is None or self.end is None or not self.stream.time_base:
            raise Unreadable("its length is not known")
        return float((self.end - self.start) * Fraction(self.stream.time_base))
