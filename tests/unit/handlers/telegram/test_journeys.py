"""Transcripts of chats, from the command to the end."""

from dataclasses import replace
from unittest.mock import patch

import httpx

from handlers._chat_orders import NOT_DONE
from service.sandbox import Switches
from service.testing import sample_event
from tests.support.sample_media import image
from tests.unit.handlers.telegram.conftest import PHOTO, VIDEO, Bot


async def test_photo_with_a_command_becomes_a_video(bot: Bot) -> None:
    """The photo goes up as bytes, progress is one message, and the video is the answer to the command."""
    await bot.write("/video a cat jumps", photo=PHOTO)
    [task] = await bot.test.tasks()
    assert task.params["prompt"] == "a cat jumps"
    assert [picture["media_type"] for picture in task.params["images"]] == ["image/jpeg"]
    assert task.params["images"][0]["bytes"] == len(PHOTO)
    await bot.finish()
    assert bot.api.log == [
        "user: [photo] /video a cat jumps",
        "bot: Got it with 1 photo. The video is in the queue.",
        "edit: Making the video…",
        "bot: [video]",
        "delete",
    ]
    [sent] = bot.api.shown()
    assert sent.details["bytes"] == len(VIDEO)
    assert bot.api.chats[7].messages[sent.reply_to or 0].text == "/video a cat jumps"


async def test_refused_user_gets_one_polite_answer_an_hour(bot: Bot) -> None:
    """An uninvited user gets the ids that the operator needs, once, and spends nothing."""
    for _ in range(3):
        await bot.write("/video a cat", photo=PHOTO, user=8, chat=8)
    await bot.test.advance(3600)
    await bot.write("hello?", user=8, chat=8)
    words = "Only invited users can make videos here. To be invited, send this to the operator of the bot:"
    refusal = f"bot: {words}\nuser 8, chat 8"
    command = "user: [photo] /video a cat"
    assert bot.api.log == [command, refusal, command, command, "user: hello?", refusal]
    assert await bot.test.tasks() == []


async def test_every_fault_of_an_invalid_request_is_a_line(bot: Bot) -> None:
    """The progress message becomes the faults, and the request does not count for the cap."""
    await bot.write("/video " + "x" * 4000, photo=image("JPEG", (100, 20)))
    assert bot.api.texts()[0].splitlines() == [
        "The request was not accepted:",
        "• Picture 1: must be at least 128x128 pixels, is 100x20: send a larger image",
        "• Picture 1: must have an aspect ratio from 1:4 to 4:1, is 100x20: crop it",
        "Change it and send the command again.",
    ]
    assert await bot.test.tasks() == []
    assert await bot.test.tools.state.get("spent/2026-01-01/user/7", []) == []


async def test_failure_of_the_provider_is_explained() -> None:
    """The kind of the error decides what the user reads."""
    bot = Bot(switches=Switches(run_time=0.0, tiny_videos=True, callbacks=False, fail_tasks=1.0))
    async with bot.test:
        await bot.write("/video a cat", photo=PHOTO)
        await bot.finish()
        [task] = await bot.test.tasks()
        assert bot.api.log[:2] == ["user: [photo] /video a cat", "bot: Got it with 1 photo. The video is in the queue."]
        [text] = bot.api.texts()
        assert text.endswith(f"\n\nTask {task.id}")


async def test_command_that_cannot_be_carried_out_is_explained(bot: Bot) -> None:
    """Telegram has no file for the photo: after the last attempt the message says so, and nothing is counted."""
    answer = bot.api.respond

    def failing(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404) if request.url.path.startswith("/file/") else answer(request)

    with patch.object(bot.api, "respond", failing):
        await bot.write("/video a cat", photo=PHOTO)
        for pause in (1, 5, 30, 120, 600, 1800, 7200):
            await bot.test.advance(pause * 1.5)
    assert bot.api.log == [
        "user: [photo] /video a cat",
        "bot: Got it with 1 photo. The video is in the queue.",
        f"edit: {NOT_DONE}",
    ]
    assert await bot.test.tools.state.get("spent/2026-01-01/user/7", []) == []


async def test_task_past_its_deadline_is_one_message_until_the_video_comes() -> None:
    """Polls do not make the bot write more; the deadline is shown, and a result that comes later is sent."""
    bot = Bot({"TASK_DEADLINE": "60s"}, Switches(run_time=3600.0, tiny_videos=True, callbacks=False))
    async with bot.test:
        await bot.write("/video a cat", photo=PHOTO)
        await bot.write("/status")
        await bot.finish()
        [task] = await bot.test.tasks()
        shown = next(bot.api.shown()).id
        target = {"chat_id": 7, "message": shown, "reply_to": min(bot.api.chats[7].messages)}
        output = [{"type": "video", "url": "https://media.example/late.mp4"}]
        late = replace(task, status="completed", output=output)
        found = await bot.test.deliver(sample_event(task=late, client="handler:telegram"), target=target)
        assert found.delivered, found.error
    edits = [line for line in bot.api.log if line.startswith("edit: ")]
    assert len(edits) == len(set(edits)) > 1
    assert edits[0] == "edit: Making the video…"
    assert all(line.startswith("edit: Making the video… ") for line in edits[1:-1])
    assert edits[-1] == "edit: The provider has not finished in time. If a result still arrives, it is sent here."
    assert [line for line in bot.api.log if not line.startswith("edit: ")] == [
        "user: [photo] /video a cat",
        "bot: Got it with 1 photo. The video is in the queue.",
        "user: /status",
        "bot: Your newest videos:\n• 00:00 UTC: Making the video…",
        "bot: [video]",
        "delete",
    ]
