"""Messages: the secret, groups, answers, topics, caps, and the small commands."""

import json
from typing import Any

import pytest

from handlers.telegram import SECRET_HEADER
from service.domain.errors import BadSetting
from tests.support.sample_media import image
from tests.support.telegram_api import FORUM, GROUP, TOKEN
from tests.unit.handlers.telegram.conftest import PHOTO, VIDEO, Bot


@pytest.mark.parametrize("secret", ["", "wrong", "é", TOKEN])
async def test_update_without_the_secret_is_refused(bot: Bot, secret: str) -> None:
    """The header is compared before anything is read; neither a missing one nor the token itself is accepted."""
    update = bot.api.message("/video a cat", photo=PHOTO)
    answer = await bot.test.request("POST", "/webhook", json=update, headers={SECRET_HEADER: secret.encode()})
    assert answer.status_code == 401
    assert TOKEN not in answer.text
    await bot.test.advance(0)
    assert bot.api.calls == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"[]", b"{}", b'{"update_id": null}', b'{"update_id": 1, "message": 7}', b'"x"', b"[" * 100_000],
)
async def test_body_that_is_no_update_is_answered_so_that_it_is_not_repeated(bot: Bot, body: bytes) -> None:
    """Telegram would send it again for a day, and nothing could change."""
    headers = {SECRET_HEADER: bot.test.tools.config.webhook_secret}
    assert (await bot.test.request("POST", "/webhook", content=body, headers=headers)).status_code == 200
    await bot.test.advance(0)
    assert bot.api.calls == []


async def test_repeated_update_is_one_task(bot: Bot) -> None:
    """Telegram repeats what was not answered in time, before and after the bot has acted on it."""
    update = bot.api.message("/video a cat", photo=PHOTO)
    await bot.post(update)
    await bot.receive(update)
    await bot.receive(update)
    assert len(await bot.test.tasks()) == 1
    assert len(bot.api.texts()) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"from": {"id": 9, "is_bot": True, "first_name": "Other"}},
        {"via_bot": {"id": 9, "is_bot": True, "first_name": "Other"}},
        {"is_automatic_forward": True},
        {"text": "/video@OtherBot a cat", "entities": [{"type": "bot_command", "offset": 0, "length": 15}]},
        {"text": "a /video in the middle", "entities": [{"type": "bot_command", "offset": 2, "length": 6}]},
        {"text": "talk of people"},
        {"text": "/help", "entities": [{"type": "bot_command", "offset": 0, "length": 5}]},
        {"text": "/unknown", "entities": [{"type": "bot_command", "offset": 0, "length": 8}]},
    ],
)
async def test_group_gets_no_answer_unless_it_names_this_bot(bot: Bot, message: dict[str, Any]) -> None:
    """Other bots, their commands, and what people say to each other."""
    await bot.receive(bot.api.message(chat=GROUP, **message))
    assert bot.api.texts(GROUP) == []


async def test_group_and_topic_get_the_answer_where_the_command_was(bot: Bot) -> None:
    """`/video@Bot` in another case, in a topic: progress is an answer in that topic."""
    await bot.write("/video@videobot a cat", chat=FORUM, user=99, thread=11, photo=PHOTO)
    [shown] = bot.api.shown(FORUM)
    assert (shown.thread, shown.text) == (11, "Making the video…")
    assert bot.api.chats[FORUM].messages[shown.reply_to or 0].text == "/video@videobot a cat"


async def test_thread_of_an_answer_outside_topics_is_left_out(bot: Bot) -> None:
    """In groups without topics an answer has a thread id at which nothing can be sent."""
    await bot.write("/video a cat", chat=GROUP, photo=PHOTO, message_thread_id=444)
    [shown] = bot.api.shown(GROUP)
    assert shown.thread is None


async def test_topic_that_was_deleted_is_answered_outside(bot: Bot) -> None:
    """The answer is not lost with its topic."""
    update = bot.api.message("/video a cat", chat=FORUM, thread=12, photo=PHOTO)
    bot.api.chats[FORUM].threads.discard(12)
    await bot.receive(update)
    assert [shown.thread for shown in bot.api.shown(FORUM)] == [None]


async def test_video_of_a_topic_that_was_deleted_meanwhile_is_whole(bot: Bot) -> None:
    """The second upload, outside of the topic, has all bytes of the file that the first has read.

    As in NousResearch/hermes-agent#27098 and tdlib/telegram-bot-api#693.
    """
    await bot.write("/video a cat", chat=FORUM, thread=12, photo=PHOTO)
    bot.api.chats[FORUM].threads.discard(12)
    await bot.finish()
    [sent] = [each for each in bot.api.shown(FORUM) if each.details.get("bytes")]
    assert (sent.thread, sent.details["bytes"]) == (None, len(VIDEO))


async def test_answer_to_a_photo_uses_that_photo(bot: Bot) -> None:
    """The photo may be anybody's; its message is in the update."""
    bot.api.message("look", chat=GROUP, photo=PHOTO, user=8)
    number = max(bot.api.chats[GROUP].messages)
    await bot.write("/video a cat", chat=GROUP, answers=number)
    [task] = await bot.test.tasks()
    assert [part["bytes"] for part in task.params["images"]] == [len(PHOTO)]


async def test_picture_sent_as_a_file_is_used(bot: Bot) -> None:
    """Its type is read from its bytes, not from what the sender claims."""
    await bot.write("/video a cat", document=image("WEBP", (300, 300)))
    [task] = await bot.test.tasks()
    assert task.params["images"][0]["media_type"] == "image/webp"


async def test_file_that_is_no_picture_is_refused(bot: Bot) -> None:
    """A file that only claims to be a picture never reaches the provider."""
    await bot.write("/video a cat", document=b"<svg onload=alert(1)>" + bytes(100))
    assert bot.api.texts() == ["One of the files is not a JPEG, PNG or WebP picture."]
    assert await bot.test.tasks() == []


async def test_token_goes_nowhere_but_to_telegram(bot: Bot, capfd: pytest.CaptureFixture[str]) -> None:
    """The address of a photo contains it: the task has bytes instead, and no log line has it."""
    await bot.write("/video a cat", photo=PHOTO)
    [task] = await bot.test.tasks()
    assert TOKEN not in json.dumps(task.to_json())
    captured = capfd.readouterr()
    assert TOKEN not in captured.out + captured.err


async def test_cap_of_a_user_is_explained_and_ends_with_the_day() -> None:
    """Refused requests do not count, and the next day (UTC) begins anew."""
    bot = Bot({"TELEGRAM_USER_DAILY": "2"})
    async with bot.test:
        await bot.write("/video a cat")
        for _ in range(3):
            await bot.write("/video a cat", photo=PHOTO)
        assert len(await bot.test.tasks()) == 2
        assert bot.api.texts()[-1] == "You have used all 2 videos of today. A new day begins at 00:00 UTC."
        await bot.test.advance(86_400)
        await bot.write("/video a cat", photo=PHOTO)
        assert len(await bot.test.tasks()) == 3


async def test_cap_of_a_chat_counts_everybody() -> None:
    """Two users of a group share the chat's cap."""
    bot = Bot({"TELEGRAM_CHAT_DAILY": "1"})
    async with bot.test:
        for user in (7, 99):
            await bot.write("/video a cat", chat=GROUP, user=user, photo=PHOTO)
        assert bot.api.texts(GROUP)[-1] == "This chat has used the one video of today. A new day begins at 00:00 UTC."
        assert await bot.test.tools.state.get("spent/2026-01-01/user/99", []) == []


async def test_nobody_may_spend_by_default() -> None:
    """Without lists nobody is invited, `/start` included."""
    bot = Bot({"TELEGRAM_USERS": "", "TELEGRAM_CHATS": ""})
    async with bot.test:
        await bot.write("/start")
        await bot.write("/video a cat", photo=PHOTO)
        assert len(bot.api.texts()) == 1
        assert "user 7, chat 7" in bot.api.texts()[0]


async def test_help_status_and_cancel(bot: Bot) -> None:
    """The small commands that people expect."""
    await bot.write("/start")
    assert "/video a cat jumps over the fence" in bot.api.texts()[-1]
    await bot.write("/status")
    await bot.write("/cancel")
    assert bot.api.texts()[-1] == "You have no unfinished video here."
    await bot.write("/video")
    assert bot.api.texts()[-1].startswith("Write behind the command what the video should show")
    await bot.write("a cat, please")
    assert bot.api.texts()[-1].startswith("To make a video, send photos")


async def test_status_lists_and_cancel_cancels_the_newest_video(bot: Bot) -> None:
    """A task that the provider runs may not be canceled there any more; the list shows it."""
    await bot.post(bot.api.message("/video a cat", photo=PHOTO))
    await bot.post(bot.api.message("/status"))
    await bot.test.advance(0)
    await bot.write("/status")
    assert bot.api.texts()[-1].startswith("Your newest videos:\n• 00:00 UTC: ")
    await bot.write("/cancel")
    assert bot.api.texts()[-1].startswith(("Canceled.", "It cannot be canceled: "))


async def test_missing_extra_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token without the extra is a fault of the settings, with the command that fixes it."""
    monkeypatch.setattr("handlers.telegram.telegram_installed", lambda: False)
    with pytest.raises(BadSetting, match=r"pip install 'boomerang-service\[telegram\]'"):
        async with Bot().test:
            pass
