"""Transcripts of chats, from the command to the end."""

from unittest.mock import patch

import httpx

from handlers._chat_orders import NOT_DONE
from service.sandbox import Switches
from tests.support.discord_api import OTHER_CHANNEL, SERVER, USER
from tests.support.sample_media import image
from tests.support.sandbox_tasks import end_at_provider
from tests.unit.handlers.discord.conftest import PICTURE, VIDEO, Bot


async def test_command_with_a_picture_becomes_a_video(bot: Bot) -> None:
    """The picture goes up as bytes, and the answer to the command is changed until it is the video."""
    assert await bot.command("a cat jumps", pictures=(PICTURE,)) == {"type": 5}
    [task] = await bot.test.tasks()
    assert task.params["prompt"] == "a cat jumps"
    assert [(each["media_type"], each["bytes"]) for each in task.params["images"]] == [("image/jpeg", len(PICTURE))]
    await bot.finish()
    assert bot.api.log == [
        "user: /video a cat jumps [picture]",
        f"answer to {USER}: Got it with 1 picture. The video is in the queue.",
        f"answer to {USER}: Making the video…",
        f"answer to {USER}: [file] a cat jumps",
    ]
    [sent] = bot.api.seen()
    assert (sent.file, sent.mentions, bot.api.counted) == (VIDEO, {"parse": []}, 0)
    assert sent.name.endswith(".mp4")


async def test_refused_user_reads_the_ids_that_the_operator_needs(bot: Bot) -> None:
    """Nobody else sees the refusal; nothing is spent, and no request is made."""
    await bot.command("a cat", channel=OTHER_CHANNEL)
    words = "Only invited people can make videos here. To be invited, send this to the operator of the bot:"
    refusal = f"{words}\nuser {USER}, channel {OTHER_CHANNEL}, server {SERVER}"
    assert bot.api.log == ["user: /video a cat", f"answer, only for {USER}: {refusal}"]
    assert (await bot.test.tasks(), bot.api.requests) == ([], [])


async def test_every_fault_of_an_invalid_request_is_a_line(bot: Bot) -> None:
    """The answer becomes the faults, and the request does not count for the cap."""
    await bot.command("a cat", pictures=(image("JPEG", (100, 20)),))
    [text] = bot.api.texts()
    assert text.splitlines() == [
        "The request was not accepted:",
        "• Picture 1: must be at least 128x128 pixels, is 100x20: send a larger image",
        "• Picture 1: must have an aspect ratio from 1:4 to 4:1, is 100x20: crop it",
        "Change it and send the command again.",
    ]
    assert await bot.test.tasks() == []
    assert await bot.test.tools.state.get(f"spent/2026-01-01/user/{USER}", []) == []


async def test_failure_of_the_provider_is_explained() -> None:
    """The kind of the error decides what the person reads."""
    bot = Bot(switches=Switches(run_time=0.0, tiny_videos=True, callbacks=False, fail_tasks=1.0))
    async with bot.test:
        await bot.command("a cat", pictures=(PICTURE,))
        await bot.finish()
        [task] = await bot.test.tasks()
        [text] = bot.api.texts()
    assert text.endswith(f"\n\nTask {task.id}")


async def test_command_that_cannot_be_carried_out_is_explained(bot: Bot) -> None:
    """The server of the picture fails for hours: in the end the bot says so, and the video is not counted."""
    answer = bot.api.respond

    def failing(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503) if request.url.path.startswith("/attachments/") else answer(request)

    with patch.object(bot.api, "respond", failing):
        await bot.command("a cat", pictures=(PICTURE,))
        for pause in (0, 1, 5, 30, 120, 600, 1800, 7200):
            await bot.test.advance(pause * 1.5)
    assert bot.api.log[1] == f"answer to {USER}: Got it with 1 picture. The video is in the queue."
    assert bot.api.log[-1].endswith(NOT_DONE)
    assert await bot.test.tools.state.get(f"spent/2026-01-01/user/{USER}", []) == []


async def test_task_longer_than_the_token_ends_as_a_message_of_the_bot() -> None:
    """Fifteen minutes after the command its answer is changed by the bot, and the video mentions its person."""
    bot = Bot(switches=Switches(run_time=3600.0, tiny_videos=True, callbacks=False))
    async with bot.test:
        began = bot.clock.now()
        await bot.command("a cat", pictures=(PICTURE,))
        for _ in range(4):
            await bot.test.advance(300)
        await end_at_provider(bot.test.sandbox)
        await bot.finish()
        assert (bot.clock.now() - began).total_seconds() > 900
    assert bot.api.log[:3] == [
        "user: /video a cat [picture]",
        f"answer to {USER}: Got it with 1 picture. The video is in the queue.",
        f"answer to {USER}: Making the video…",
    ]
    assert bot.api.log[-3].startswith("bot edit: Making the video… ")
    assert bot.api.log[-2:] == [f"bot: [file] <@{USER}> a cat", "delete"]
    [sent] = bot.api.seen()
    assert (sent.mentions, bot.api.counted) == ({"parse": [], "users": [USER]}, 0)


async def test_failure_later_than_the_token_mentions_its_person() -> None:
    """The message with the progress is replaced by one that the person notices."""
    bot = Bot({"TASK_DEADLINE": "950s"}, Switches(run_time=3600.0, tiny_videos=True, callbacks=False))
    async with bot.test:
        await bot.command("a cat", pictures=(PICTURE,))
        for _ in range(4):
            await bot.test.advance(300)
    words = "The provider has not finished in time. If a result still arrives, it is sent here."
    assert bot.api.texts() == [f"<@{USER}> a cat\n{words}"]
