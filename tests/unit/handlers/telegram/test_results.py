"""Results in the chat: an upload first, then what works when an upload does not."""

from dataclasses import replace
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from service import Artifact, Event
from service.testing import Outcome, sample_event, sample_task
from tests.support.telegram_api import PRIVATE, ApiError
from tests.unit.handlers.telegram.conftest import PHOTO, VIDEO, Bot

URL = "https://media.example/result.mp4"
OWN = "handler:telegram"
TASK = sample_task(id="task-1", output=[{"type": "video", "url": URL}])


def completed(**changes: Any) -> Event:
    """Return the event of a completed task with one video."""
    return sample_event("task.completed", task=replace(TASK, **changes), client=OWN)


async def deliver(bot: Bot, event: Event | None = None, *, attempt: int = 1, **target: Any) -> Outcome:
    """Deliver an event to the private chat."""
    return await bot.test.deliver(event or completed(), target={"chat_id": PRIVATE, **target}, attempt=attempt)


async def test_video_is_uploaded_with_what_players_need(bot: Bot) -> None:
    """Without size and length Telegram shows a larger video as a square; the caption has no markup."""
    assert (await deliver(bot, caption="<b>Ada & *Bob*</b>")).delivered
    [call] = bot.api.called("sendVideo")
    assert call.files["video"] == VIDEO
    assert (call.arguments["width"], call.arguments["height"], call.arguments["duration"]) == ("320", "180", "1")
    assert call.arguments["supports_streaming"] is True
    assert call.arguments["caption"] == "<b>Ada & *Bob*</b>"
    assert "parse_mode" not in call.arguments


async def test_caption_is_shortened_as_telegram_counts(bot: Bot) -> None:
    """A character beyond the basic plane counts twice."""
    assert (await deliver(bot, caption="😀" * 1000)).delivered
    [call] = bot.api.called("sendVideo")
    assert call.arguments["caption"] == "😀" * 511 + "…"


async def test_replay_sends_the_file_that_telegram_has(bot: Bot) -> None:
    """The same delivery again sends nothing; a replay sends the file by its id, without another upload."""
    event = completed()
    assert (await deliver(bot, event)).delivered
    assert (await deliver(bot, event)).delivered
    assert len(bot.api.called("sendVideo")) == 1
    assert (await deliver(bot, replace(event, id="another"))).delivered
    first, second = bot.api.called("sendVideo")
    assert first.files
    assert not second.files
    assert len(bot.media_requests) == 1


async def test_unknown_file_id_is_uploaded_again(bot: Bot) -> None:
    """Telegram may delete a file, or the bot may have another token."""
    assert (await deliver(bot)).delivered
    bot.api.files.clear()
    assert (await deliver(bot)).delivered
    assert [bool(call.files) for call in bot.api.called("sendVideo")] == [True, False, True]


async def test_telegram_fetches_what_this_service_cannot(bot: Bot) -> None:
    """Two attempts follow the schedule; the third gives Telegram the address."""
    bot.api.web[URL] = VIDEO
    bot.media = None
    for attempt in (1, 2):
        assert (await deliver(bot, attempt=attempt)).outcome == "retry"
    assert (await deliver(bot, attempt=3)).delivered
    assert [call.arguments["video"] for call in bot.api.called("sendVideo")] == [URL]


@pytest.mark.parametrize(
    "error", [ApiError(413, "Request Entity Too Large"), ApiError(400, "Bad Request: file is too big")]
)
async def test_upload_that_telegram_finds_too_large_becomes_a_link(bot: Bot, error: ApiError) -> None:
    """The provider's address serves while nothing is stored, and the text says that it is short-lived."""
    bot.api.faults["sendVideo"] = [error]
    assert (await deliver(bot)).delivered
    [text] = bot.api.texts()
    assert text.endswith(f"for a short time only:\n{URL}")


async def test_large_video_becomes_a_link_without_being_uploaded(bot: Bot) -> None:
    """Its size is known before its bytes are read."""
    bot.answer_media = lambda _: httpx.Response(200, headers={"content-length": "80000000"}, content=b"")
    assert (await deliver(bot)).delivered
    assert bot.api.called("sendVideo") == []
    assert bot.api.texts()[0].startswith("The video is too large for this chat (80 MB). Download it here")


async def test_refused_upload_and_address_become_a_link(bot: Bot) -> None:
    """Whatever Telegram does not take, the user gets an address."""
    bot.api.faults["sendVideo"] = [ApiError(400, "Bad Request: VIDEO_FILE_INVALID")]
    assert (await deliver(bot)).delivered
    assert [line.split(":")[0] for line in bot.api.log] == ["bot"]
    assert bot.api.texts()[0].endswith(URL)


async def test_flood_control_delays_an_upload(bot: Bot) -> None:
    """Nothing else is tried meanwhile."""
    bot.api.faults["sendVideo"] = [ApiError(429, "Too Many Requests: retry after 9", {"retry_after": 9})]
    outcome = await deliver(bot)
    assert (outcome.outcome, outcome.after) == ("retry", 9)
    assert len(bot.api.calls) == 1


async def test_several_results_are_sent_once_each(bot: Bot) -> None:
    """A failure in the middle does not send the first one twice; the progress message goes last."""
    shown = bot.api.add_message_of_bot(PRIVATE, "Making the video…")
    event = completed(output=[{"type": "video", "url": URL}, {"type": "video", "url": URL + "?2"}])
    bot.api.faults["sendVideo"] = []
    assert (await deliver(bot, event, message=shown)).delivered
    assert bot.api.log == ["bot: [video]", "bot: [video]", "delete"]
    assert (await deliver(bot, event, message=shown)).delivered
    assert len(bot.api.called("sendVideo")) == 2


async def test_picture_is_sent_as_a_photo(bot: Bot) -> None:
    """A model may make pictures."""
    buffer = BytesIO()
    with Image.new("RGB", (64, 64)) as picture:
        picture.save(buffer, "PNG")
    bot.media = buffer.getvalue()
    assert (await deliver(bot, completed(output=[{"type": "image", "url": "https://media.example/a.png"}]))).delivered
    assert bot.api.texts() == ["[photo]"]


async def test_completed_task_without_a_result_is_a_dead_letter(bot: Bot) -> None:
    """There is nothing to send."""
    assert (await deliver(bot, completed(output=[]))).outcome == "dead"


def stored(task_id: str = "task-1") -> Event:
    """Return the event of a stored result."""
    artifact = Artifact(url=URL, archived_url="file:///x.mp4", media_type="video/mp4", bytes=1, sha256="0" * 64)
    return sample_event("artifact.stored", task=replace(TASK, id=task_id), artifact=artifact, client=OWN)


async def test_stored_file_is_waited_for_where_results_are_archived() -> None:
    """`task.completed` only says so; the file is sent when it is stored, and then nothing is left to do."""
    bot = Bot({"ARCHIVE_URL": "file:///srv/videos"})
    async with bot.test:
        shown = bot.api.add_message_of_bot(PRIVATE, "Making the video…")
        assert (await deliver(bot, message=shown)).delivered
        assert bot.api.texts() == ["Finished. Storing the video…"]
        assert (await deliver(bot, stored(), message=shown)).delivered
        assert bot.api.texts() == ["[video]"]
        assert not await bot.test.tools.unschedule("unstored", f"task-1/{PRIVATE}")


async def test_entry_without_the_stored_event_gets_the_video_at_once() -> None:
    """A client that asks for `task.completed` only is not made to wait."""
    bot = Bot({"ARCHIVE_URL": "file:///srv/videos"})
    async with bot.test:
        assert (await deliver(bot, events=["task.completed"])).delivered
        assert bot.api.texts() == ["[video]"]


async def test_video_that_is_not_stored_in_time_is_sent_from_the_provider() -> None:
    """Where storing fails, the user waits three minutes and not for ever."""
    bot = Bot({"ARCHIVE_URL": "file:///srv/videos"})
    async with bot.test:
        await bot.write("/video a cat", photo=PHOTO)
        await bot.finish()
        assert bot.api.texts() == ["Finished. Storing the video…"]
        await bot.test.advance(179)
        assert bot.api.called("sendVideo") == []
        await bot.test.advance(1)
        assert bot.api.texts() == ["[video]"]


async def test_stored_file_without_archive_setting_is_not_sent_twice(bot: Bot) -> None:
    """Another handler may store results: the video was sent when the task was completed."""
    assert (await deliver(bot)).delivered
    assert (await deliver(bot, stored())).delivered
    assert bot.api.texts() == ["[video]"]
