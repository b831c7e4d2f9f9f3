"""Render MP4s from reference images with Pillow and PyAV; needs the `media` extra."""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from service.sandbox.tasks import FPS, even, frame_size

SAMPLE_RATE = 44_100
_AAC_SAMPLES = 1024
_TONE = (220.0, 277.18, 329.63)
_AMPLITUDE = 0.06
_STILL_SCALE = 1.12
"""Ratio of a still's size to the frame's, so that the view can move over the still."""
_CROSSFADE = 0.5
_TEXT_COLOUR, _OUTLINE_COLOUR = (255, 255, 255), (0, 0, 0)
_MAX_PIXELS = 64_000_000
_UNREADABLE = (OSError, ValueError, SyntaxError, av.FFmpegError, Image.DecompressionBombError)
"""Errors of Pillow and PyAV for invalid files; Pillow raises SyntaxError for an invalid PNG."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Size of a video in pixels, and its length in seconds."""

    width: int
    height: int
    seconds: float

    @classmethod
    def of(cls, resolution: str, aspect_ratio: str, seconds: float) -> "Shape":
        """Return the shape whose shorter side is the number in `resolution`; both sides are even."""
        width, height = frame_size(resolution, aspect_ratio)
        return cls(width=width, height=height, seconds=seconds)

    @property
    def frames(self) -> int:
        """Return the number of frames."""
        return max(1, round(self.seconds * FPS))

    @property
    def still(self) -> tuple[int, int]:
        """Return the size of the stills."""
        return even(self.width * _STILL_SCALE), even(self.height * _STILL_SCALE)


def prepare(source: bytes, shape: Shape) -> bytes:
    """Return a JPEG still from the bytes of an image or a video; raise `ValueError` for anything else."""
    try:
        upright = ImageOps.exif_transpose(_open_image(source)).convert("RGB")
    except _UNREADABLE as error:
        raise ValueError("neither an image nor a video") from error
    return _jpeg(ImageOps.fit(upright, shape.still, Image.Resampling.BILINEAR))


def placeholder(number: int, shape: Shape) -> bytes:
    """Return a JPEG still with stripes, for a reference that is not available."""
    across, down = shape.still
    picture = Image.new("RGB", (across, down), ((number * 67) % 200, 90, 140))
    draw = ImageDraw.Draw(picture)
    for left in range(0, across, 80):
        draw.rectangle((left, 0, left + 39, down), fill=((number * 67) % 200, 120, 170))
    return _jpeg(picture)


def render(target: Path, stills: Sequence[bytes], shape: Shape, *, music: bool, watermark_corner: int | None) -> None:
    """Write an MP4 that moves over the stills and fades between them.

    `music` adds a quiet tone. `watermark_corner` writes "AI-generated" into a corner: 1 top left, 2 top right, 3 bottom
    right, 4 bottom left.
    """
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        video = _video_stream(container, shape)
        audio = _audio_stream(container) if music else None
        for frame in _frames([Image.open(BytesIO(still)).convert("RGB") for still in stills], shape, watermark_corner):
            container.mux(video.encode(av.VideoFrame.from_image(frame)))  # type: ignore[no-untyped-call]  # PyAV leaves it untyped
        container.mux(video.encode(None))
        if audio is not None:
            _write_audio(container, audio, shape.seconds)


def _open_image(source: bytes) -> Image.Image:
    try:
        picture = Image.open(BytesIO(source))
    except UnidentifiedImageError:
        return _first_frame(source)
    if picture.width * picture.height > _MAX_PIXELS:
        raise ValueError("too many pixels")
    return picture


def _first_frame(source: bytes) -> Image.Image:
    with av.open(BytesIO(source), "r") as container:
        for frame in container.decode(video=0):
            picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]  # PyAV leaves it untyped
            return picture
    raise ValueError("a video without frames")


def _video_stream(container: OutputContainer, shape: Shape) -> VideoStream:
    if "libx264" in av.codecs_available:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "28"})
    else:
        video = container.add_stream("mpeg4", rate=FPS)
    video.width, video.height, video.pix_fmt = shape.width, shape.height, "yuv420p"
    return video


def _audio_stream(container: OutputContainer) -> AudioStream:
    audio = container.add_stream("aac", rate=SAMPLE_RATE)
    audio.layout = "mono"
    return audio


def _write_audio(container: OutputContainer, audio: AudioStream, seconds: float) -> None:
    # the encoder adds one frame at the start: one frame less keeps the audio within the length of the video
    for start in range(0, int(seconds * SAMPLE_RATE) - 2 * _AAC_SAMPLES, _AAC_SAMPLES):
        frame = av.AudioFrame(format="fltp", layout="mono", samples=_AAC_SAMPLES)
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        plane = frame.planes[0]
        plane.update(_tone(start).tobytes().ljust(plane.buffer_size, b"\0"))
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def _tone(start: int) -> "array[float]":
    pitch = _TONE[(start // SAMPLE_RATE) % len(_TONE)]
    step = 2 * math.pi * pitch / SAMPLE_RATE
    return array("f", (_AMPLITUDE * math.sin(step * sample) for sample in range(start, start + _AAC_SAMPLES)))


def _frames(stills: Sequence[Image.Image], shape: Shape, watermark_corner: int | None) -> Iterator[Image.Image]:
    for number in range(shape.frames):
        position = number / shape.frames * len(stills)
        frame = _view(stills[int(position)], shape, position % 1.0)
        fade = (position % 1.0 - (1.0 - _CROSSFADE)) / _CROSSFADE
        if fade > 0.0 and int(position) + 1 < len(stills):
            frame = Image.blend(frame, _view(stills[int(position) + 1], shape, 0.0), fade)
        if watermark_corner is not None:
            _write_watermark(frame, watermark_corner)
        yield frame


def _view(still: Image.Image, shape: Shape, along: float) -> Image.Image:
    left = int((still.width - shape.width) * along)
    top = int((still.height - shape.height) * along)
    return still.crop((left, top, left + shape.width, top + shape.height))


def _write_watermark(frame: Image.Image, corner: int) -> None:
    draw = ImageDraw.Draw(frame)
    text, size = "AI-generated", frame.height // 24
    across = int(draw.textlength(text, font_size=size))
    left = size if corner in {1, 4} else frame.width - across - size
    top = size if corner in {1, 2} else frame.height - 2 * size
    draw.text((left, top), text, fill=_TEXT_COLOUR, stroke_fill=_OUTLINE_COLOUR, stroke_width=2, font_size=size)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
