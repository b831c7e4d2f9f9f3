"""The Discord bot over a temporary database, a fake clock, the sandbox, and the stand-in of the API."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from handlers.discord import handlers
from service.sandbox import Switches
from service.testing import FakeClock, HandlerTest
from tests.support.discord_api import APPLICATION, CHANNEL, PUBLIC_KEY, TOKEN, DiscordApi, DiscordRequest
from tests.support.sample_media import image, video

PICTURE = image("JPEG", (640, 480))
VIDEO = video(size=(320, 180))
HOSTS = frozenset({"discord.com", "cdn.discordapp.com"})


class Bot:
    """A running bot, and the Discord that it writes to. `media` answers the addresses of the provider's results."""

    def __init__(self, settings: Mapping[str, str] | None = None, switches: Switches | None = None) -> None:
        self.clock = FakeClock()
        self.api = DiscordApi(self.clock.now)
        self.media: bytes | None = VIDEO
        given = {"DISCORD_APPLICATION_ID": APPLICATION, "DISCORD_PUBLIC_KEY": PUBLIC_KEY, "DISCORD_TOKEN": TOKEN}
        given |= {"DISCORD_CHANNELS": CHANNEL, **(settings or {})}
        self.test = HandlerTest(handlers, settings=given, respond=self.respond, clock=self.clock, switches=switches)

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer as Discord, or as the server of the provider's results."""
        if request.url.host in HOSTS:
            return self.api.respond(request)
        return httpx.Response(404) if self.media is None else httpx.Response(200, content=self.media)

    async def post(self, request: DiscordRequest) -> httpx.Response:
        """Send a request as Discord does."""
        return await self.test.request("POST", "/interactions", content=request.content, headers=request.headers)

    async def command(self, prompt: str = "", **options: Any) -> dict[str, Any]:
        """Let a person give a command, and the bot act on it; return the first answer."""
        interaction = self.api.command(prompt, **options)
        response = await self.post(self.api.signed(interaction))
        assert response.status_code == 200
        answer: dict[str, Any] = response.json()
        self.api.take_answer(interaction, answer)
        await self.test.advance(1)
        return answer

    async def finish(self) -> None:
        """Let the newest task end."""
        tasks = await self.test.tasks()
        await self.test.finish(tasks[-1].id)


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """Yield a bot for everybody in one channel."""
    found = Bot()
    async with found.test:
        yield found
