"""The Telegram bot over a temporary database, a fake clock, the sandbox, and the stand-in of the Bot API."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from handlers.telegram import SECRET_HEADER, handlers
from service.sandbox import Switches
from service.testing import FakeClock, HandlerTest
from tests.support.sample_media import image, video
from tests.support.telegram_api import TOKEN, TelegramApi

PHOTO = image("JPEG", (640, 480))
VIDEO = video(size=(320, 180))


class Bot:
    """A running bot, and the Telegram that it writes to. `media` answers the addresses of the provider's results."""

    def __init__(self, settings: Mapping[str, str] | None = None, switches: Switches | None = None) -> None:
        self.clock = FakeClock()
        self.api = TelegramApi(self.clock.now)
        self.media: bytes | None = VIDEO
        self.media_requests: list[str] = []
        self.answer_media = self._serve_media
        given = {"TELEGRAM_TOKEN": TOKEN, "TELEGRAM_USERS": "7", "TELEGRAM_CHATS": "-50,-1007", **(settings or {})}
        self.test = HandlerTest(handlers, settings=given, respond=self.respond, clock=self.clock, switches=switches)

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer as Telegram, or as the server of the provider's results."""
        if request.url.host == "api.telegram.org":
            return self.api.respond(request)
        self.media_requests.append(str(request.url))
        return self.answer_media(request)

    def _serve_media(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(404) if self.media is None else httpx.Response(200, content=self.media)

    async def post(self, update: Mapping[str, Any], **headers: str) -> httpx.Response:
        """Send an update as Telegram does."""
        secret = self.test.tools.config.webhook_secret
        return await self.test.request("POST", "/webhook", json=update, headers={SECRET_HEADER: secret, **headers})

    async def receive(self, *updates: Mapping[str, Any]) -> None:
        """Send updates, and do what is due then."""
        for update in updates:
            assert (await self.post(update)).status_code == 200
        await self.test.advance(0)

    async def write(self, text: str = "", **options: Any) -> None:
        """Let a person send a message, and the bot act on it."""
        await self.receive(self.api.message(text, **options))

    async def finish(self) -> None:
        """Let the newest task end."""
        tasks = await self.test.tasks()
        await self.test.finish(tasks[-1].id)


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """Yield a bot for the user 7 and the chats -50 and -1007."""
    found = Bot()
    async with found.test:
        yield found
