"""Generated images, videos and audio files for tests that need valid files."""

import base64
import json
from fractions import Fraction
from functools import cache
from io import BytesIO
from typing import Any

import av
from PIL import Image

from service.domain.media.limits import InlineMedia

MODEL = "viduq2_pro_reference"


def image(form: str = "PNG", size: tuple[int, int] = (160, 128), mode: str = "RGB", **options: Any) -> bytes:
    """Return an image file of one colour; `options` go to the encoder."""
    buffer = BytesIO()
    with Image.new(mode, size) as picture:
        picture.save(buffer, form, **options)
    return buffer.getvalue()


@cache
def video(
    form: str = "mp4",
    *,
    codec: str = "mpeg4",
    size: tuple[int, int] = (128, 128),
    frames: int = 10,
    rate: int | Fraction = 10,
) -> bytes:
    """Return a video file of `frames` frames at `rate` a second."""
    buffer = BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            with Image.new("RGB", size, (index % 256, 80, 80)) as picture:
                frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call] # PyAV leaves it untyped
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@cache
def sound(form: str = "mp4") -> bytes:
    """Return a file with a second of silence and no video."""
    buffer = BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream("aac", rate=44100)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def uri(media_type: str, data: bytes) -> str:
    """Return a base64 data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def with_data_uris(params: dict[str, Any]) -> dict[str, Any]:
    """Return restored parameters as the JSON that is sent, with data URIs for inline media."""
    found: dict[str, Any] = json.loads(json.dumps(params, default=InlineMedia.data_uri))
    return found


def params(**more: Any) -> dict[str, Any]:
    """Return valid parameters, with `more` added."""
    return {"prompt": "a cat", "images": ["https://example.org/cat.png"], **more}
