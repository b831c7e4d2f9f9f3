"""Pictures that a bot downloads from its platform."""

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from handlers._chat_media import MAX_PICTURE, UnusablePicture, read_picture
from tests.support.sample_media import image


class _Body(httpx.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


async def test_picture_is_read() -> None:
    """The picture becomes a data URI of its type."""
    assert (await read_picture(httpx.Response(200, stream=_Body(image())))).startswith("data:image/png;base64,")


async def test_answer_is_not_decompressed() -> None:
    """A small body that would have the size of the memory is no picture, whatever its encoding is called."""
    bomb = gzip.compress(image() + bytes(MAX_PICTURE))
    response = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=_Body(bomb))
    with pytest.raises(UnusablePicture, match="not a JPEG, PNG or WebP"):
        await read_picture(response)
