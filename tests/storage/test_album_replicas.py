"""An album whose updates go to two replicas of the service, on each database."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from handlers.telegram import SECRET_HEADER, handlers
from service.testing import FakeClock, HandlerTest
from tests.storage.conftest import EmptyDatabase
from tests.support.sample_media import image
from tests.support.telegram_api import PRIVATE, TOKEN, TelegramApi


class Replicas:
    """Two processes of one service, which share a database and a clock, and the Telegram that both write to."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        self.api = TelegramApi(self.clock.now)
        settings = {"DATABASE_URL": url, "TELEGRAM_TOKEN": TOKEN, "TELEGRAM_USERS": "7"}
        self.first, self.second = (
            HandlerTest(handlers, settings=settings, respond=self.api.respond, clock=self.clock) for _ in range(2)
        )

    async def post(self, replica: HandlerTest, update: object) -> None:
        """Send an update to one of them."""
        secret = {SECRET_HEADER: replica.tools.config.webhook_secret}
        assert (await replica.request("POST", "/webhook", json=update, headers=secret)).status_code == 200

    async def advance(self, seconds: float) -> None:
        """Move the clock; both replicas do what is due."""
        await self.first.advance(seconds)
        await self.second.advance(0)


@pytest.fixture
async def replicas(database: EmptyDatabase) -> AsyncIterator[Replicas]:
    """Yield two running replicas."""
    found = Replicas(database.url)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(found.first)
        await stack.enter_async_context(found.second)
        yield found


async def test_album_over_two_replicas_whose_last_photo_is_six_seconds_late_is_one_task(replicas: Replicas) -> None:
    """The photos come to both replicas, out of order, one of them twice: one task has all of them in their order."""
    pictures = [image("JPEG", (200 + 10 * number, 200)) for number in range(4)]
    updates = [
        replicas.api.message("/video a dance" if number == 0 else "", photo=picture, album="a1")
        for number, picture in enumerate(pictures)
    ]
    await replicas.post(replicas.second, updates[1])
    await replicas.post(replicas.first, updates[0])
    await replicas.post(replicas.second, updates[2])
    await replicas.post(replicas.first, updates[2])
    await replicas.advance(6)
    await replicas.post(replicas.second, updates[3])
    await replicas.advance(1.5)
    assert await replicas.first.tasks() == []
    await replicas.advance(1)
    await replicas.advance(10)
    [task] = await replicas.first.tasks()
    assert [part["bytes"] for part in task.params["images"]] == [len(picture) for picture in pictures]
    assert [line for line in replicas.api.log if line.startswith("bot")] == [
        "bot: Got it with 4 photos. The video is in the queue."
    ]
    assert replicas.api.chats[PRIVATE].messages


async def test_update_that_two_replicas_receive_is_answered_once(replicas: Replicas) -> None:
    """Telegram repeats an update while the first replica is still busy with it; the second sees it again later."""
    update = replicas.api.message("/help")
    for replica in (replicas.first, replicas.second):
        await replicas.post(replica, update)
        await replica.tools.state.delete(f"update/{update['update_id']}")  # as if it was not stored yet
        await replica.advance(0)
    assert len(replicas.api.texts()) == 1
