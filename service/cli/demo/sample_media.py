"""Sample images for the demo, and a check that a video can be decoded. Requires the extra `media`."""

import math
from dataclasses import dataclass
from pathlib import Path

import av
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

SIDE = 640
HILLS = "hills.png"
Colour = tuple[int, int, int]


def draw_images(directory: Path) -> list[Path]:
    """Draw three images, write them to `directory` as PNG and return their paths."""
    pictures = {"evening-sky.png": _sky(), HILLS: _hills(), "boomerang.png": _boomerang()}
    paths = []
    for name, picture in pictures.items():
        path = directory / name
        with picture:
            picture.save(path)
        paths.append(path)
    return paths


def _gradient(top: Colour, bottom: Colour) -> Image.Image:
    shade = Image.linear_gradient("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return ImageOps.colorize(shade, top, bottom)


def _sky() -> Image.Image:
    picture = _gradient((38, 32, 84), (255, 148, 92))
    glow = Image.new("RGB", picture.size)
    ImageDraw.Draw(glow).ellipse((190, 300, 450, 560), fill=(150, 92, 40))
    picture = ImageChops.add(picture, glow.filter(ImageFilter.GaussianBlur(60)))
    ImageDraw.Draw(picture).ellipse((250, 360, 390, 500), fill=(255, 240, 196))
    return picture


def _hills() -> Image.Image:
    picture = _gradient((120, 168, 214), (250, 214, 170))
    draw = ImageDraw.Draw(picture)
    for layer, colour in enumerate([(126, 148, 168), (84, 118, 128), (48, 86, 88), (24, 54, 56)]):
        draw.polygon(_ridge(layer), fill=colour)
    return picture


def _ridge(layer: int) -> list[tuple[float, float]]:
    base, height, waves = 300 + 80 * layer, 60 - 8 * layer, 1.3 + 0.5 * layer
    line = [
        (x, base - height * math.sin(2 * math.pi * waves * x / SIDE + 1.7 * layer) - 10 * math.sin(x / 23 + layer))
        for x in range(0, SIDE + 8, 8)
    ]
    return [(0.0, float(SIDE)), *line, (float(SIDE), float(SIDE))]


def _boomerang() -> Image.Image:
    picture = _gradient((18, 96, 108), (120, 196, 176))
    wood = Image.new("RGBA", picture.size)
    draw = ImageDraw.Draw(wood)
    draw.line([(120, 470), (330, 170), (530, 470)], fill=(214, 132, 58, 255), width=86, joint="curve")
    for x, y in ((120, 470), (330, 170), (530, 470)):
        draw.ellipse((x - 43, y - 43, x + 43, y + 43), fill=(214, 132, 58, 255))
    for x in (175, 475):
        draw.ellipse((x - 16, 390, x + 16, 422), fill=(250, 228, 180, 255))
    shadow = Image.new("RGBA", picture.size, (8, 48, 56, 150))
    blurred = wood.getchannel("A").filter(ImageFilter.GaussianBlur(14))
    picture.paste(shadow, (14, 22), ImageChops.multiply(blurred, Image.new("L", picture.size, 150)))
    picture.paste(wood, (0, 0), wood)
    return picture


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a fully decoded video; sizes in bytes and pixels, `seconds` is its duration."""

    bytes: int
    width: int
    height: int
    frames: int
    seconds: float


def decode_video(path: Path) -> VideoInfo:
    """Decode every frame of the video at `path` and return its properties. Raises ValueError if it does not play."""
    try:
        with av.open(str(path), format="mp4") as container:
            stream = container.streams.video[0]
            frames = sum(1 for _ in container.decode(stream))
            seconds = float((container.duration or 0) / av.time_base)
            video = VideoInfo(
                bytes=path.stat().st_size, width=stream.width, height=stream.height, frames=frames, seconds=seconds
            )
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise ValueError(f"{path.name} does not play: {error}") from error
    if not frames or not seconds:
        raise ValueError(f"{path.name} has no frames")
    return video
