"""Reads the pictures of a chat, and puts a result into a temporary file for its upload to one."""

import asyncio
import importlib
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

import httpx
from anyio.to_thread import run_sync

from service import data_uri

from ._file_types import HEAD, file_type_of

MAX_PICTURE = 20_000_000
"""Bytes of a picture that a bot downloads."""

AS_IT_IS = {"accept-encoding": "identity"}
"""Headers of a download: `read_picture` decodes nothing."""

TOO_LARGE = "One of the files is larger than 20 MB. Send a smaller one."


class UnusablePicture(Exception):
    """A picture cannot be used; the text is the reason for its user."""


async def read_picture(response: httpx.Response) -> str:
    """Return the picture in the body of a response as a data URI. Raises UnusablePicture.

    The body is not decoded: a picture has no content encoding, and a small answer could have the size of the memory.
    """
    buffered = response.is_stream_consumed  # a transport without a network returns the body with the response
    data = bytearray()
    async for chunk in response.aiter_bytes() if buffered else response.aiter_raw():
        data += chunk
        if len(data) > MAX_PICTURE:
            raise UnusablePicture(TOO_LARGE)
    file_type = file_type_of(bytes(data[:HEAD]))
    if file_type is None or file_type.holds != "image":
        raise UnusablePicture("One of the files is not a JPEG, PNG or WebP picture.")
    return await asyncio.to_thread(data_uri, bytes(data), file_type.media_type)


class TooLarge(Exception):
    """A result has more bytes than its platform takes: `size`, None where only that is known. `link` leads to it."""

    def __init__(self, size: int | None, link: str | None = None) -> None:
        super().__init__("the result is too large for its platform")
        self.size = size
        self.link = link


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """Width and height in pixels as it is shown, and the length in seconds, of a video."""

    width: int
    height: int
    seconds: int


@asynccontextmanager
async def spooled(
    chunks: AsyncIterator[bytes], *, max_bytes: int, link: str | None = None
) -> AsyncIterator[tuple[IO[bytes], int]]:
    """Yield a temporary file with all chunks, and its size; it is deleted afterwards. Raises TooLarge with the link.

    A file is uploaded with its length, and can be sent a second time; memory holds one chunk of it.
    """
    file = await run_sync(TemporaryFile)
    try:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(None, link)
            await run_sync(file.write, chunk)
        await run_sync(file.seek, 0)
        yield file, size
    finally:
        file.close()


async def video_facts(file: IO[bytes]) -> VideoFacts | None:
    """Return the facts of a video file, None if PyAV is not installed or cannot read them."""
    if importlib.util.find_spec("av") is None:
        return None
    try:
        return await run_sync(_read_facts, file)
    finally:
        await run_sync(file.seek, 0)


def _read_facts(file: IO[bytes]) -> VideoFacts | None:
    av = importlib.import_module("av")
    try:
        with av.open(file, mode="r") as movie:  # reads the headers only
            stream = movie.streams.video[0]
            shape = stream.codec_context.sample_aspect_ratio
            width = round(stream.codec_context.width * (shape or 1))
            seconds = round((movie.duration or 0) / av.time_base)
            return VideoFacts(width=width, height=stream.codec_context.height, seconds=seconds)
    except (av.error.FFmpegError, OSError, ValueError, LookupError):
        return None
