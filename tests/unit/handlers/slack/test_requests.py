"""What Slack sends: signatures, repeats, odd bodies, and messages that are not for the bot."""

import json
from typing import Any

import pytest

from tests.support.slack_api import BOT, CHANNEL, FOREIGN, OUTSIDER, USER, SlackRequest
from tests.unit.handlers.slack.conftest import PICTURE, Bot


def changed(request: SlackRequest, **headers: str) -> SlackRequest:
    """Return a request with other headers."""
    return SlackRequest(content=request.content, headers={**request.headers, **headers})


@pytest.mark.parametrize(
    "headers",
    [
        {"x-slack-signature": "v0=" + "0" * 64},
        {"x-slack-signature": ""},
        {"x-slack-signature": "v0=\xe4\xf6\xfc"},
        {"x-slack-request-timestamp": "soon"},
        {"x-slack-request-timestamp": ""},
        {"x-slack-request-timestamp": "9" * 400},
        {"x-slack-request-timestamp": "1e9"},
    ],
)
@pytest.mark.parametrize("path", ["/command", "/events"])
async def test_request_that_slack_did_not_sign_is_refused(bot: Bot, path: str, headers: dict[str, str]) -> None:
    """The library raises for a time that is no number and for a signature that is not ASCII; the answer is 401."""
    request = changed(bot.api.command("a cat"), **headers)
    raw = {name: value.encode("latin-1") for name, value in request.headers.items()}
    answer = await bot.test.request("POST", path, content=request.content, headers=list(raw.items()))
    assert answer.status_code == 401


@pytest.mark.parametrize(("age", "status"), [(299, 200), (301, 401), (-301, 401)])
async def test_signature_is_valid_for_five_minutes(bot: Bot, age: float, status: int) -> None:
    """A recorded request cannot be sent again later."""
    request = bot.api.command("help")
    again = bot.api.signed(request.content, request.headers["content-type"], age=age)
    assert (await bot.post("/command", again)).status_code == status


async def test_signed_body_that_was_changed_is_refused(bot: Bot) -> None:
    """The signature is over the raw bytes, which may be no text at all."""
    request = bot.api.command("a cat")
    for content in (request.content.replace(b"cat", b"dog"), b"\xff\xfe" + request.content):
        assert (await bot.post("/command", SlackRequest(content=content, headers=request.headers))).status_code == 401


async def test_challenge_of_the_events_address_is_answered_when_signed(bot: Bot) -> None:
    """Slack asks once whether the address is ours."""
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1a"}).encode()
    answer = await bot.post("/events", bot.api.signed(body))
    assert answer.json() == {"challenge": "3eZbrw1a"}


async def test_check_of_the_certificate_is_answered(bot: Bot) -> None:
    """Slack sends it to the address of a command, now and then."""
    request = bot.api.signed(b"ssl_check=1&token=x", "application/x-www-form-urlencoded")
    answer = await bot.post("/command", request)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'"text"',
        b'{"type": "event_callback"}',
        b'{"type": "event_callback", "event": []}',
        b'{"type": "event_callback", "event": {"type": "app_mention"}}',
        b'{"type": "event_callback", "event": {"type": "app_mention", "user": "U1", "channel": "../x", "ts": "1.2"}}',
        b'{"type": "event_callback", "authorizations": 7, "event": {"type": "app_mention"}}',
        b'{"type": "event_callback", "event": {"type": "app_mention", "files": 7, "user": "U1", "channel": "C1"}}',
        b"[" * 100_000,
    ],
)
async def test_event_that_cannot_be_read_is_answered_and_dropped(bot: Bot, body: bytes) -> None:
    """Slack would repeat it, and end the subscription after many errors."""
    assert (await bot.post("/events", bot.api.signed(body))).status_code == 200
    await bot.test.advance(3)
    assert bot.api.calls == []


@pytest.mark.parametrize("body", [b"", b"text=a+cat", b"trigger_id=1&channel_id=%00", b"&" * 5000])
async def test_command_that_cannot_be_read_is_answered_and_dropped(bot: Bot, body: bytes) -> None:
    """A form without its ids."""
    request = bot.api.signed(body, "application/x-www-form-urlencoded")
    assert (await bot.post("/command", request)).status_code == 200
    await bot.test.advance(0)
    assert bot.api.calls == []


async def test_repeated_event_makes_one_video(bot: Bot) -> None:
    """Slack repeats an event at once, after a minute and after five, with the same id."""
    event = bot.api.message(f"<@{BOT}> a cat", pictures=(PICTURE,))
    for wait in (0, 1, 60, 300):
        await bot.test.advance(wait)
        repeats = {"x-slack-retry-num": "1", "x-slack-retry-reason": "http_timeout"} if wait else {}
        assert (await bot.post("/events", bot.api.signed_event(event), **repeats)).status_code == 200
    await bot.test.advance(3)
    assert len(await bot.test.tasks()) == 1
    assert len(bot.api.called("chat.postMessage")) == 1


async def test_command_with_a_known_trigger_makes_one_video(bot: Bot) -> None:
    """A proxy may repeat a request; each command of a person has a trigger of its own."""
    for _ in range(2):
        await bot.command("a cat https://example.org/cat.jpg", trigger="1.2.same")
    assert len(await bot.test.tasks()) == 1
    await bot.command("a cat https://example.org/cat.jpg")
    assert len(await bot.test.tasks()) == 2


@pytest.mark.parametrize("first", ["app_mention", "message"])
async def test_two_events_for_one_message_are_one_video_with_its_files(bot: Bot, first: str) -> None:
    """A mention may come without its files, and again with them as an event of the channel."""
    with_files = bot.api.message(f"<@{BOT}> a cat", pictures=(PICTURE,), kind="message", subtype="file_share")
    without = {name: value for name, value in with_files["event"].items() if name not in {"files", "subtype"}}
    mention = bot.api.event({**without, "type": "app_mention"})
    both = [mention, with_files] if first == "app_mention" else [with_files, mention]
    for event in both:
        await bot.post("/events", bot.api.signed_event(event))
        await bot.test.advance(1)
    await bot.test.advance(2)
    [task] = await bot.test.tasks()
    assert [each["bytes"] for each in task.params["images"]] == [len(PICTURE)]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("nice weather", {"kind": "message"}),
        ("a cat", {"kind": "message", "pictures": (PICTURE,)}),
        (f"<@{BOT}> a cat", {"kind": "message"}),
        (f"<@{BOT}> a cat", {"bot_id": "B0002"}),
        (f"<@{BOT}> a cat", {"user": BOT}),
        (f"<@{BOT}> a cat", {"subtype": "message_changed"}),
        ("a cat", {"kind": "im", "channel": "D0001", "subtype": "message_deleted"}),
    ],
)
async def test_message_that_is_not_for_the_bot_is_ignored(bot: Bot, text: str, options: dict[str, Any]) -> None:
    """Of a channel only mentions count; answers to bots and to itself would never end."""
    await bot.write(text, **options)
    assert bot.api.calls == []


async def test_direct_message_needs_no_mention() -> None:
    """The answer is in the same conversation."""
    bot = Bot({"SLACK_USERS": USER})
    async with bot.test:
        await bot.write("a cat", kind="im", channel="D0001", pictures=(PICTURE,))
        await bot.finish()
        assert bot.api.texts("D0001") == [f"[file] <@{USER}> a cat"]


@pytest.mark.parametrize("setting", [{"SLACK_USERS": USER}, {"SLACK_WORKSPACES": "T0001"}])
async def test_users_and_workspaces_may_be_listed(setting: dict[str, str]) -> None:
    """Each list opens the bot by itself."""
    bot = Bot({"SLACK_CHANNELS": "", **setting})
    async with bot.test:
        await bot.command("a cat https://example.org/cat.jpg")
        assert len(await bot.test.tasks()) == 1


async def test_nobody_may_spend_without_a_list() -> None:
    """The bot is closed by default."""
    bot = Bot({"SLACK_CHANNELS": ""})
    async with bot.test:
        assert (await bot.command("a cat")).startswith("Only invited people")
        await bot.write(f"<@{BOT}> a cat", pictures=(PICTURE,))
        assert await bot.test.tasks() == []


async def test_outsider_who_mentions_the_bot_reads_one_refusal_an_hour(bot: Bot) -> None:
    """It is seen by the outsider alone."""
    for _ in range(3):
        await bot.write(f"<@{BOT}> a cat", channel="C0003", user=OUTSIDER)
    await bot.test.advance(3600)
    await bot.write(f"<@{BOT}> a cat", channel="C0003", user=OUTSIDER)
    reply = [line for line in bot.api.log if line.startswith("bot")]
    refusal = "Only invited people can make videos here. To be invited, send this to the operator of the bot:"
    assert reply == [f"bot, only for {OUTSIDER}: {refusal}\nuser {OUTSIDER}, channel C0003, workspace T0001"] * 2


@pytest.mark.parametrize("text", ["", "help", "HELP", "https://example.org/cat.jpg"])
async def test_command_without_a_prompt_is_explained(bot: Bot, text: str) -> None:
    """The answer is for its person alone, and no call is made."""
    assert (await bot.command(text)).startswith("Write `/video a cat")
    assert bot.api.calls == []


async def test_cap_of_a_day_is_explained_politely() -> None:
    """The third video of a day is refused, that of the next day is not."""
    bot = Bot({"SLACK_USER_DAILY": "2"})
    async with bot.test:
        for _ in range(3):
            await bot.command("a cat https://example.org/cat.jpg")
        assert len(await bot.test.tasks()) == 2
        words = "You have used all 2 videos of today. A new day begins at 00:00 UTC."
        assert bot.api.log[-1] == f"bot, only for {USER}: {words}"
        await bot.test.advance(86_400)
        await bot.command("a cat https://example.org/cat.jpg")
        assert len(await bot.test.tasks()) == 3


async def test_status_and_cancel_are_about_the_own_videos_of_a_channel(bot: Bot) -> None:
    """Somebody else's video is neither shown nor canceled."""
    await bot.command("a cat https://example.org/cat.jpg")
    await bot.command("cancel", user=OUTSIDER)
    await bot.command("status", user=OUTSIDER)
    await bot.command("status")
    reply = [line for line in bot.api.log if line.startswith("bot, only")]
    assert reply[0] == f"bot, only for {OUTSIDER}: You have no unfinished video here."
    assert reply[1].startswith(f"bot, only for {OUTSIDER}: Write `/video a cat")
    assert reply[2].startswith(f"bot, only for {USER}: Your newest videos:\n• 00:00 UTC: ")
    assert (await bot.test.tasks())[0].status != "canceled"


async def test_member_of_no_common_channel_gets_the_video_directly() -> None:
    """The bot says why; everything after it comes there too."""
    bot = Bot({"SLACK_CHANNELS": f"{CHANNEL},{FOREIGN}"})
    async with bot.test:
        await bot.command("a cat https://example.org/cat.jpg", channel=FOREIGN)
        await bot.finish()
        assert bot.api.log[2].startswith("bot: I am not a member of the channel in which you wrote")
        assert bot.api.texts(f"D{USER[1:]}") == [f"[file] <@{USER}> a cat"]


async def test_bot_that_may_write_nowhere_replies_through_the_command() -> None:
    """Neither a member of the channel, nor a tab for messages: the command's own address is what is left."""
    bot = Bot({"SLACK_CHANNELS": FOREIGN})
    async with bot.test:
        bot.api.messages_tab = False
        await bot.command("a cat https://example.org/cat.jpg", channel=FOREIGN)
        assert bot.api.log[-1].startswith("response: I cannot answer here yet. Invite me to this channel (`/invite`)")
        assert await bot.test.tasks() == []
        assert await bot.test.tools.state.get(f"spent/2026-01-01/user/{USER}", []) == []
