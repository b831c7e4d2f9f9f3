"""Data URIs of inline media, and checks of images and videos against their limits.

An `Inspector` opens the files and returns facts; the functions here compare them with `MediaLimits`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pybase64 import b64decode, b64encode

MB = 1024 * 1024
"""The API page limits sizes in "MB". The larger reading accepts everything that the page documents as valid."""

MAX_PIXELS = 2**28
"""Maximum number of pixels: 16,384 x 16,384. Pillow, for one, refuses two thirds of that as a decompression bomb."""

DURATION_SLACK = 0.1
"""Tolerance in seconds for the rounding of containers.

240 frames at 29.97 frames a second last 8.008 s, a cut at the next frame adds up to 0.042 s at 24 frames a second, and
one at the next block of sound up to 0.064 s (1024 samples at 16 kHz).
"""

_HEADER = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)(?:;[a-z0-9.+-]+=[^;,\s]*)*;base64,", re.IGNORECASE)
_HEADER_CHARS = 256


class Unreadable(Exception):
    """A file cannot be opened as its declared format; `reason` is a short phrase for the sender."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Facts of an image: `format` as in `sniff`, width and height in pixels."""

    format: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """Facts of a video: `format` as in `sniff`, width and height in pixels, length in seconds."""

    format: str
    width: int
    height: int
    seconds: float


class Inspector(Protocol):
    """Opens images and videos. Methods return None without a library for the kind, and raise `Unreadable`."""

    def image(self, data: bytes) -> ImageFacts | None:
        """Return the facts of the image in `data`."""

    def video(self, data: bytes) -> VideoFacts | None:
        """Return the facts of the video in `data`."""


class ClientInspector(Inspector, Protocol):
    """An inspector whose work is divided between clients."""

    def for_client(self, client: str) -> Inspector:
        """Return an inspector whose work counts against the share of `client`."""


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """The limits of one kind of media.

    `formats` maps each media type that may be declared to its format, the preferred type first. `max_bytes` is
    inclusive; `below_bytes` is exclusive and applies to decoded base64. `max_seconds[n - 1]` is the maximum length of
    each of n videos.
    """

    kind: Literal["image", "video"]
    formats: Mapping[str, str]
    max_bytes: int
    below_bytes: int | None = None
    min_side: int = 128
    max_ratio: int = 4
    max_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataUri:
    """The head of a base64 data URI (RFC 2397): its media type in lower case, and the index where its base64 begins."""

    media_type: str
    body_at: int


def parse_data_uri(text: str) -> DataUri | None:
    """Return the head of `text`, or None if it is no base64 data URI; the body is not checked."""
    match = _HEADER.match(text, 0, _HEADER_CHARS)
    return DataUri(media_type=match[1].lower(), body_at=match.end()) if match else None


def decoded_size(text: str, uri: DataUri) -> int:
    """Return the decoded size of the base64 of `text` in bytes, without decoding it."""
    tail = text[max(uri.body_at, len(text) - 2) :]
    return (len(text) - uri.body_at) * 3 // 4 - (len(tail) - len(tail.rstrip("=")))


def decode(text: str, uri: DataUri) -> bytes:
    """Return the bytes of a data URI; raise ValueError unless its base64 is strict (RFC 4648: alphabet and padding)."""
    return b64decode(text[uri.body_at :], validate=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class InlineMedia:
    """Inline media of a request, which are encoded when the request is written: JSON holds them without any escape.

    `media_type` is one of those in MediaLimits.
    """

    media_type: str
    data: bytes = field(repr=False)

    def base64(self) -> bytes:
        """Return the data in base64."""
        return b64encode(self.data)

    def data_uri(self) -> str:
        """Return the base64 data URI."""
        return f"data:{self.media_type};base64,{self.base64().decode('ascii')}"


def listed(items: tuple[str, ...]) -> str:
    """Return the items as an English list: `a, b or c`."""
    return " or ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def size_faults(size: int, limits: MediaLimits) -> list[str]:
    """Return the faults of a file of `size` bytes."""
    if not size:
        return [f"is empty: send the {limits.kind} itself"]
    if size > limits.max_bytes:
        return [f"must be at most {_megabytes(limits.max_bytes)}, is {size:,} bytes: send a smaller {limits.kind}"]
    if limits.below_bytes is not None and size >= limits.below_bytes:
        allowed = _megabytes(limits.below_bytes)
        return [f"must be less than {allowed} when sent inline, is {size:,} bytes: send its address instead"]
    return []


def format_faults(media_type: str, found: str | None, limits: MediaLimits) -> list[str]:
    """Return the faults of content of format `found` that is declared as `media_type`."""
    if found == limits.formats[media_type]:
        return []
    matching = next((name for name, form in limits.formats.items() if form == found), None)
    if matching:
        return [f"is declared {media_type}, but its content is {found}: declare it {matching}"]
    content = f"its content is {found}" if found else f"its content is no known {limits.kind}"
    return [f"is declared {media_type}, but {content}: send {listed(tuple(dict.fromkeys(limits.formats.values())))}"]


def frame_faults(facts: ImageFacts | VideoFacts, limits: MediaLimits) -> list[str]:
    """Return the faults of the width and height of an image or video; the bounds are inclusive."""
    width, height, side, ratio = facts.width, facts.height, limits.min_side, limits.max_ratio
    faults = []
    if min(width, height) < side:
        faults.append(f"must be at least {side}x{side} pixels, is {width}x{height}: send a larger {limits.kind}")
    if width * height > MAX_PIXELS:
        faults.append(f"must have at most {MAX_PIXELS:,} pixels, is {width}x{height}: send a smaller {limits.kind}")
    if max(width, height) > ratio * min(width, height):
        faults.append(f"must have an aspect ratio from 1:{ratio} to {ratio}:1, is {width}x{height}: crop it")
    return faults


def duration_faults(facts: VideoFacts, limits: MediaLimits, count: int) -> list[str]:
    """Return the faults of the length of one of `count` videos."""
    if not limits.max_seconds:
        return []
    maximum = limits.max_seconds[min(max(count, 1), len(limits.max_seconds)) - 1]
    if facts.seconds <= maximum + DURATION_SLACK:
        return []
    condition = "when it is the only video" if count <= 1 else f"when {count} videos are given"
    return [f"must last at most {maximum:g} seconds {condition}, lasts {facts.seconds:.2f}: trim it"]


def _megabytes(size: int) -> str:
    return f"{size / MB:g} MB"
