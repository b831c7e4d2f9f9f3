"""Results that are stored: their poster goes with the upload, and a link replaces what is too large."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from handlers._telegram_bot import open_bot
from handlers._telegram_results import Result, send_result
from handlers._telegram_settings import Place
from service import Content
from service.testing import sample_task
from tests.support.sample_media import image
from tests.support.telegram_api import PRIVATE
from tests.unit.handlers.telegram.conftest import VIDEO, Bot

LINK = "https://video.example/links/token"


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def send(bot: Bot, *, size: int | None, data: bytes = VIDEO, poster: bytes | Exception | None = None) -> None:
    """Send a stored result with this size and poster."""

    async def make_poster() -> bytes | None:
        if isinstance(poster, Exception):
            raise poster
        return poster

    def make_link(expires_in: timedelta) -> str:
        assert expires_in == timedelta(days=7)
        return LINK

    @asynccontextmanager
    async def content(*_: Any, **__: Any) -> AsyncIterator[Content]:
        yield Content(
            name="a.mp4",
            media_type="video/mp4",
            size=size,
            sha256=None,
            stored=True,
            chunks=_chunks(data),
            make_poster=make_poster,
            make_link=make_link,
        )

    tools = replace(bot.test.tools, content=content, message_id="m1")
    result = Result(task=sample_task(), index=0, place=Place(chat_id=PRIVATE))
    await send_result(result, await open_bot(tools), tools, attempt=1)


@pytest.mark.parametrize(
    ("poster", "used"),
    [(image("JPEG", (320, 180)), True), (None, False), (b"x" * 200_000, False), (OSError("disk"), False)],
)
async def test_poster_goes_with_the_video_and_never_prevents_it(
    bot: Bot, poster: bytes | Exception | None, used: bool
) -> None:
    """A poster that Telegram would not use, or that cannot be made, is left out."""
    await send(bot, size=len(VIDEO), poster=poster)
    [sent] = bot.api.shown()
    assert (sent.media, sent.details["thumbnail"]) == ("video", used)


@pytest.mark.parametrize(
    ("size", "words"),
    [(83_000_000, "The video is too large for this chat (83 MB)"), (None, "The video cannot be sent")],
)
async def test_stored_file_that_is_too_large_becomes_a_link_for_a_week(bot: Bot, size: int | None, words: str) -> None:
    """The link needs no key; a size that nobody declared is noticed while the file is read."""
    await send(bot, size=size, data=b"x" if size else b"x" * 50_000_001)
    [text] = bot.api.texts()
    assert text.startswith(words)
    assert text.endswith(f"for 7 days:\n{LINK}")
    assert bot.api.called("sendVideo") == []
