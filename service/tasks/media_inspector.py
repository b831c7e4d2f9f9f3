"""Open inline media: images with Pillow, videos with PyAV. Both are optional (the extra `media`).

The bytes are not trusted. A file is opened only as the format of its first bytes, never by probing: some formats of
FFmpeg are lists of other addresses to open. Nothing but the given bytes is opened. The pixels of all files that are
decoded at a time are bounded, and with them memory; clients share them. Every error of a decoder becomes `Unreadable`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TypeVar

from service.concurrency.pixel_semaphore import PixelSemaphore
from service.domain.media.file_headers import (
    claimed_samples,
    has_too_many_parts,
    image_size,
    is_truncated,
    scan_count,
    sniff,
)
from service.domain.media.limits import ImageFacts, Unreadable, VideoFacts
from service.tasks.image_decoder import decode_image

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_DECODED_PIXELS = 16 * 1024 * 1024  # 64 MB as RGBA; of a larger image only the header is checked
MAX_PACKETS = 50_000  # 8 seconds at 1,000 frames a second are 8,000
MAX_SAMPLES = 2_000_000  # 8 seconds of 192 kHz PCM audio are 1.5 million; FFmpeg reserves some 24 bytes for each
MAX_DECODE_TRIES = 64  # more packets than any codec buffers before its first frame
MAX_SLICE_PIXELS = 2 * 1024**3  # pixels of all slices, each of which may cover the frame: a second or two of decoding

T = TypeVar("T")

_IMAGE_FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
_VIDEO_FORMATS = {"mp4": "mov", "mov": "mov", "avi": "avi"}
_EXTRAS = {"PIL": "pillow", "av": "av"}
_START_CODE = b"\0\0\1"
_START_CODE_FILTERS = {
    "h264": "h264_mp4toannexb",
    "hevc": "hevc_mp4toannexb",
    "mpeg1video": "null",
    "mpeg2video": "null",
}
"""Filters of FFmpeg after which every slice of a codec begins with a start code, by codec."""

_CODEC_OPTIONS = {"max_pixels": str(MAX_DECODED_PIXELS), "threads": "1"}
SMALL_PIXELS = 4 * 1024 * 1024
"""Pictures up to this size never wait for larger ones; two of the largest fit beside each other."""

_budget = PixelSemaphore(MAX_DECODED_PIXELS, small=SMALL_PIXELS, small_total=2 * SMALL_PIXELS)


def missing_extras() -> tuple[str, ...]:
    """Return the distributions of the extra `media` that are not installed; only headers are checked then."""
    return tuple(name for module, name in _EXTRAS.items() if find_spec(module) is None)


def inspector() -> "MediaInspector | None":
    """Return an inspector that uses the installed libraries, or None if none is installed."""
    missing = missing_extras()
    available = MediaInspector(images="pillow" not in missing, videos="av" not in missing)
    return available if available.images or available.videos else None


@dataclass(frozen=True, kw_only=True)
class MediaInspector:
    """Implements `ClientInspector`. `images` and `videos` state which libraries are installed. Thread-safe.

    What is decoded counts against the share of `client`; None has no share.
    """

    images: bool = True
    videos: bool = True
    client: str | None = None

    def for_client(self, client: str) -> "MediaInspector":
        """Return an inspector that decodes within the share of `client`."""
        return replace(self, client=client)

    def image(self, data: bytes) -> ImageFacts | None:
        """Return the facts of the image in `data`; decode it up to `MAX_DECODED_PIXELS`. Raise `Unreadable`."""
        if not self.images:
            return None
        form, size = sniff(data), image_size(data)
        if form not in _IMAGE_FORMATS or size is None:
            raise Unreadable("its header is damaged")
        if has_too_many_parts(data):
            raise Unreadable("it is cut into more parts than an image has")
        pixels = size[0] * size[1]
        if pixels <= MAX_DECODED_PIXELS:
            with _guarded(pixels, self.client):
                decode_image(data, _IMAGE_FORMATS[form], size)
        return ImageFacts(format=form, width=size[0], height=size[1])

    def video(self, data: bytes) -> VideoFacts | None:
        """Return the facts of the video in `data`, after decoding its first frame; raise `Unreadable`."""
        if not self.videos:
            return None
        form = sniff(data)
        if form not in _VIDEO_FORMATS:
            raise Unreadable("its header is damaged")
        if is_truncated(data):
            raise Unreadable("it is cut short")
        if claimed_samples(data) > MAX_SAMPLES:
            raise Unreadable(f"its index claims more than {MAX_SAMPLES:,} samples")
        with _guarded(_budget.total, self.client):
            return _decode_video(data, form)


@contextmanager
def _guarded(pixels: int, client: str | None) -> Iterator[None]:
    """Run the body once `client` may decode `pixels` more; turn any error in it into `Unreadable`."""
    try:
        with _budget.hold(pixels, client=client):
            yield
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable("it is damaged or cut short") from error


def _decode_video(data: bytes, form: str) -> VideoFacts:
    with _opened_video(BytesIO(data), _VIDEO_FORMATS[form]) as (container, reader):
        reader.run(container)
        return VideoFacts(format=form, width=reader.width, height=reader.height, seconds=reader.seconds())


@contextmanager
def _opened_video(file: BinaryIO, form: str) -> "Iterator[tuple[InputContainer, _StreamReader]]":
    """Yield the container in `file`, which is opened as FFmpeg's format `form` only, and the reader of its video."""
    import av  # noqa: PLC0415 - tens of MB that only a process which checks videos needs

    with av.open(
        file,
        "r",
        format=form,
        options={
            **_CODEC_OPTIONS,
            "skip_frame": "all",
        },  # while the file is probed; `run` checks packets before it decodes them
        metadata_errors="replace",
        io_open=_refuse_open,
    ) as container:
        stream = next((candidate for candidate in container.streams.video if not _is_cover(candidate)), None)
        if stream is None:
            raise Unreadable("it holds no video")
        stream.codec_context.options = dict(_CODEC_OPTIONS)
        decode = stream.width * stream.height <= MAX_DECODED_PIXELS
        yield container, _StreamReader(stream=stream, decode=decode)


def first_frame(file: BinaryIO, form: str, use: "Callable[[VideoFrame], T]") -> T:
    """Return what `use` makes of the first frame of the video in `file`, of FFmpeg's format `form`. Blocks.

    What is decoded is bounded as for inline media; the reads of `file` bound the time. Raises `Unreadable`.
    """
    try:
        with _opened_video(file, form) as (container, reader):
            reader.run(container, only_first=True)
            frame = reader.frame
            result = None if frame is None else use(frame)
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable("it is damaged or cut short") from error
    if frame is None or result is None:
        raise Unreadable("its pictures are too large")
    return result


def _refuse_open(*_: object) -> NoReturn:
    """Refuse to open the files and addresses to which a file refers."""
    raise OSError("a file may not open others")


def _is_cover(stream: "VideoStream") -> bool:
    """Return whether a stream is a cover image."""
    return bool(stream.disposition & stream.disposition.attached_pic)


def _slice_count(stream: "VideoStream", data: bytes) -> int:
    """Return an upper limit for how many times decoding `data` processes the whole frame."""
    from av.bitstream import BitStreamFilterContext  # noqa: PLC0415 - see `_decode_video`
    from av.packet import Packet  # noqa: PLC0415 - see `_decode_video`

    codec = stream.codec_context.name
    if codec == "mjpeg":
        return scan_count(data)
    if codec not in _START_CODE_FILTERS or not data:
        return 1
    filtered = BitStreamFilterContext(_START_CODE_FILTERS[codec], stream).filter(Packet(data))
    return sum(bytes(packet).count(_START_CODE) for packet in filtered)


@dataclass(kw_only=True)
class _StreamReader:
    """Reads the packets of one stream, for the real length and the first frame; the header may be wrong."""

    stream: "VideoStream"
    decode: bool
    start: int | None = None
    end: int | None = None
    slices: int = 0
    frame: "VideoFrame | None" = None

    def run(self, container: "InputContainer", *, only_first: bool = False) -> None:
        """Read all packets, or those up to the first frame; decode until the first frame."""
        for count, packet in enumerate(container.demux(self.stream)):
            if count > MAX_PACKETS:
                raise Unreadable(f"it holds more than {MAX_PACKETS:,} frames")
            if packet.is_corrupt:
                raise Unreadable("it is cut short")
            self._time(packet)
            if self.decode and self.frame is None and (count < MAX_DECODE_TRIES or not packet.size):
                self._check_slices(packet)
                self.frame = next(iter(self._frames(packet)), None)
            if only_first and (self.frame is not None or not self.decode):
                return
        if self.decode and self.frame is None:
            raise Unreadable("none of its frames can be decoded")

    def _check_slices(self, packet: "Packet[VideoStream]") -> None:
        """Refuse frames with so many slices that decoding one takes minutes; a slice takes only a few bytes."""
        self.slices += _slice_count(self.stream, bytes(packet))
        if self.slices * self.stream.width * self.stream.height > MAX_SLICE_PIXELS:
            raise Unreadable("its frames are cut into too many slices")

    def _time(self, packet: "Packet[VideoStream]") -> None:
        at = packet.dts if packet.pts is None else packet.pts
        if at is None or packet.is_discard:
            return
        end = at + (packet.duration or self._frame_ticks())
        self.start = at if self.start is None else min(self.start, at)
        self.end = end if self.end is None else max(self.end, end)

    def _frame_ticks(self) -> int:
        """Return the length of a frame in units of the stream's time base, for a packet without a duration."""
        rate, base = self.stream.average_rate, self.stream.time_base
        return round(1 / (rate * base)) if rate and base else 0

    @staticmethod
    def _frames(packet: "Packet[VideoStream]") -> "list[VideoFrame]":
        """Return the frames that a packet completes; none if they refer to frames before the start of the file."""
        from av.error import InvalidDataError  # noqa: PLC0415 - see `_decode_video`

        try:
            return packet.decode()
        except InvalidDataError:
            return []

    @property
    def width(self) -> int:
        """Width in pixels, of the decoded frame if there is one."""
        return self.frame.width if self.frame else self.stream.width

    @property
    def height(self) -> int:
        """Height in pixels, of the decoded frame if there is one."""
        return self.frame.height if self.frame else self.stream.height

    def seconds(self) -> float:
        """Return the length in seconds."""
        if self.start is None or self.end is None or not self.stream.time_base:
            raise Unreadable("its length is not known")
        return float((self.end - self.start) * Fraction(self.stream.time_base))
