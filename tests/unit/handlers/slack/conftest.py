"""The Slack bot over a temporary database, a fake clock, the sandbox, and the stand-in of the Web API."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from handlers.slack import handlers
from service.sandbox import Switches
from service.testing import FakeClock, HandlerTest
from tests.support.sample_media import image, video
from tests.support.slack_api import CHANNEL, SIGNING_SECRET, TOKEN, SlackApi, SlackRequest

PICTURE = image("JPEG", (640, 480))
VIDEO = video(size=(320, 180))
HOSTS = frozenset({"slack.com", "files.slack.com", "hooks.slack.com"})


class Bot:
    """A running bot, and the Slack that it writes to. `media` answers the addresses of the provider's results."""

    def __init__(self, settings: Mapping[str, str] | None = None, switches: Switches | None = None) -> None:
        self.clock = FakeClock()
        self.api = SlackApi(self.clock.now)
        self.media: bytes | None = VIDEO
        self.media_requests: list[httpx.Request] = []
        given = {"SLACK_TOKEN": TOKEN, "SLACK_SIGNING_SECRET": SIGNING_SECRET, "SLACK_CHANNELS": CHANNEL}
        self.test = HandlerTest(
            handlers, settings={**given, **(settings or {})}, respond=self.respond, clock=self.clock, switches=switches
        )

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer as Slack, or as the server of the provider's results."""
        if request.url.host in HOSTS:
            return self.api.respond(request)
        self.media_requests.append(request)
        return httpx.Response(404) if self.media is None else httpx.Response(200, content=self.media)

    async def post(self, path: str, request: SlackRequest, **headers: str) -> httpx.Response:
        """Send a request as Slack does."""
        return await self.test.request("POST", path, content=request.content, headers={**request.headers, **headers})

    async def command(self, text: str, **options: Any) -> str:
        """Let a person write a command, and the bot act on it; return what the person reads at once."""
        answer = await self.post("/command", self.api.command(text, **options))
        assert answer.status_code == 200
        reply = str(answer.json()["text"]) if answer.content else ""
        if reply:
            self.api.log.append(f"answer: {reply}")
        await self.test.advance(0)
        return reply

    async def write(self, text: str, **options: Any) -> None:
        """Let a person write a message, and the bot act on it."""
        answer = await self.post("/events", self.api.signed_event(self.api.message(text, **options)))
        assert answer.status_code == 200
        await self.test.advance(2)

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
