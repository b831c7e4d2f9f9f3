"""What Discord sends: signatures, PING, odd bodies, who may spend, and what the commands do."""

import json
from typing import Any

import pytest

from tests.support.discord_api import CHANNEL, OTHER_USER, SERVER, USER, DiscordRequest
from tests.unit.handlers.discord.conftest import PICTURE, Bot

PRIVATE = 64


@pytest.mark.parametrize(
    "headers",
    [
        {"x-signature-ed25519": "0" * 128},
        {"x-signature-ed25519": ""},
        {"x-signature-ed25519": "zz" * 64},
        {"x-signature-ed25519": "ab"},
        {"x-signature-timestamp": ""},
        {"x-signature-timestamp": "soon"},
        {"x-signature-timestamp": "9" * 400},
    ],
)
async def test_request_that_discord_did_not_sign_is_refused(bot: Bot, headers: dict[str, str]) -> None:
    """Discord sends bad signatures on purpose, and removes an address that accepts them."""
    request = bot.api.signed({"type": 1})
    answer = await bot.post(DiscordRequest(content=request.content, headers={**request.headers, **headers}))
    assert answer.status_code == 401


async def test_body_that_was_changed_is_refused(bot: Bot) -> None:
    """The signature is over the time and the raw bytes."""
    request = bot.api.signed(bot.api.command("a cat"))
    changed = DiscordRequest(content=request.content.replace(b"cat", b"dog"), headers=request.headers)
    assert (await bot.post(changed)).status_code == 401


@pytest.mark.parametrize(("age", "status"), [(299, 200), (302, 401), (-302, 401)])
async def test_signature_is_valid_for_five_minutes(bot: Bot, age: float, status: int) -> None:
    """A recorded request cannot be sent again later."""
    assert (await bot.post(bot.api.signed({"type": 1}, age=age))).status_code == status


async def test_ping_is_answered(bot: Bot) -> None:
    """Discord accepts the address only then."""
    answer = await bot.post(bot.api.signed({"type": 1, "id": "1"}))
    assert (answer.status_code, answer.json()) == (200, {"type": 1})


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b"7",
        b'{"type": 2}',
        b'{"type": 2, "data": []}',
        b'{"type": 2, "data": {"name": "video"}, "token": "t", "user": {"id": "../x"}, "id": "1", "channel_id": "1"}',
        b'{"type": 2, "data": {"name": "video"}, "token": "../x", "user": {"id": "1"}, "id": "1", "channel_id": "1"}',
        b"[" * 100_000,
    ],
)
async def test_signed_body_that_cannot_be_read_is_refused(bot: Bot, body: bytes) -> None:
    """Ids and tokens become parts of addresses."""
    assert (await bot.post(bot.api.signed(body))).status_code == 400
    await bot.test.advance(1)
    assert bot.api.requests == []


async def test_command_that_was_renamed_is_answered(bot: Bot) -> None:
    """The commands of an older release may still be registered."""
    answer = await bot.post(bot.api.signed(bot.api.command("a cat", name="movie")))
    assert answer.json()["data"]["flags"] == PRIVATE


async def test_interaction_that_comes_twice_makes_one_video(bot: Bot) -> None:
    """A proxy may repeat a request."""
    interaction = bot.api.command("a cat", pictures=(PICTURE,))
    for _ in range(2):
        answer = await bot.post(bot.api.signed(interaction))
        bot.api.take_answer(interaction, answer.json())
        await bot.test.advance(1)
    assert len(await bot.test.tasks()) == 1


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ({"DISCORD_SERVERS": SERVER}, {}),
        ({"DISCORD_USERS": USER}, {"server": None}),
        ({"DISCORD_CHANNELS": CHANNEL}, {"user": OTHER_USER}),
    ],
)
async def test_servers_users_and_channels_may_be_listed(setting: dict[str, str], options: dict[str, Any]) -> None:
    """Each list opens the bot by itself; a private conversation has no server."""
    bot = Bot({"DISCORD_CHANNELS": "", **setting})
    async with bot.test:
        await bot.command("a cat", pictures=(PICTURE,), **options)
        assert len(await bot.test.tasks()) == 1


async def test_nobody_may_spend_without_a_list() -> None:
    """The bot is closed by default; an empty server is no listed one."""
    bot = Bot({"DISCORD_CHANNELS": ""})
    async with bot.test:
        for options in ({}, {"server": None}):
            answer = await bot.command("a cat", pictures=(PICTURE,), **options)
            assert answer["data"]["flags"] == PRIVATE
        assert await bot.test.tasks() == []


async def test_cap_of_a_day_is_explained_politely() -> None:
    """The second video of a day is refused."""
    bot = Bot({"DISCORD_USER_DAILY": "1"})
    async with bot.test:
        for _ in range(2):
            await bot.command("a cat", pictures=(PICTURE,))
        assert len(await bot.test.tasks()) == 1
        assert bot.api.texts()[-1] == "You have used the one video of today. A new day begins at 00:00 UTC."


async def test_status_and_cancel_are_seen_by_their_person_alone(bot: Bot) -> None:
    """Somebody else's video is neither shown nor canceled."""
    await bot.command("a cat", pictures=(PICTURE,))
    assert await bot.command(name="video-status") == {"type": 5, "data": {"flags": PRIVATE}}
    await bot.command(name="video-status", user=OTHER_USER)
    await bot.command(name="video-cancel", user=OTHER_USER)
    shown = [line for line in bot.api.log if line.startswith("answer")]
    assert shown[-3].startswith(f"answer to {USER}: Your newest videos:\n• 00:00 UTC: ")
    assert shown[-2:] == [
        f"answer to {OTHER_USER}: You have made no video here yet. Write /video with a prompt and pictures.",
        f"answer to {OTHER_USER}: You have no unfinished video here.",
    ]


async def test_token_that_discord_does_not_know_yet_is_tried_again(bot: Bot) -> None:
    """A command may be worked on before Discord has read its answer."""
    interaction = bot.api.command("a cat", pictures=(PICTURE,))
    answer = await bot.post(bot.api.signed(interaction))
    await bot.test.advance(1)
    assert await bot.test.tasks() == []
    bot.api.take_answer(interaction, answer.json())
    await bot.test.advance(3)
    assert len(await bot.test.tasks()) == 1
    assert bot.api.log[1] == f"answer to {USER}: Got it with 1 picture. The video is in the queue."


async def test_token_that_fails_early_is_replaced_by_messages_of_the_bot(bot: Bot) -> None:
    """Now and then a token is unknown within its 15 minutes; it is not used again."""
    interaction = bot.api.command("a cat", pictures=(PICTURE,))
    bot.api.unknown_tokens.add(interaction["token"])
    bot.api.take_answer(interaction, (await bot.post(bot.api.signed(interaction))).json())
    for _ in range(12):
        await bot.test.advance(2)
    await bot.finish()
    calls = [request for request in bot.api.requests if interaction["token"] in str(request.url)]
    assert len(calls) <= 7
    assert f"bot: <@{USER}> Got it with 1 picture. The video is in the queue." in bot.api.log
    assert bot.api.log[-2:] == [f"bot: [file] <@{USER}> a cat", "delete"]


async def test_bot_without_a_token_warns_at_the_start() -> None:
    """The answer to a command can be changed for 15 minutes only; later the delivery names what is missing."""
    bot = Bot({"DISCORD_TOKEN": ""})
    async with bot.test:
        await bot.command("a cat", pictures=(PICTURE,))
        assert "I can only send it within 15 minutes" in bot.api.log[1]
        await bot.finish()
        assert bot.api.texts() == ["[file] a cat"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "https://evil.example/a.jpg"}, "One of the pictures is not there any more"),
        ({"url": "http://cdn.discordapp.com/a.jpg"}, "One of the pictures is not there any more"),
        ({"url": "https://cdn.discordapp.com@evil.example/a.jpg"}, "One of the pictures is not there any more"),
        (
            {"url": "https://cdn.discordapp.com/attachments/1/2/gone.jpg"},
            "One of the pictures is not there any more",
        ),
        ({"size": 30_000_000}, "One of the files is larger than 20 MB."),
    ],
)
async def test_picture_that_cannot_be_used_is_named(bot: Bot, changes: dict[str, Any], words: str) -> None:
    """Only Discord's own servers are called; the request does not count for the cap."""
    interaction = bot.api.command("a cat", pictures=(PICTURE,))
    [attachment] = interaction["data"]["resolved"]["attachments"].values()
    attachment.update(changes)
    bot.api.take_answer(interaction, (await bot.post(bot.api.signed(interaction))).json())
    await bot.test.advance(1)
    assert bot.api.texts()[0].startswith(words)
    assert await bot.test.tools.state.get(f"spent/2026-01-01/user/{USER}", []) == []
    assert all("evil" not in request.url.host for request in bot.test.requests)


async def test_file_that_is_no_picture_is_named(bot: Bot) -> None:
    """The bytes decide, not the name."""
    await bot.command("a cat", pictures=(b"<svg onload='x'>" + b" " * 100,))
    assert bot.api.texts() == ["One of the files is not a JPEG, PNG or WebP picture."]


async def test_prompt_mentions_nobody_and_shows_no_link(bot: Bot) -> None:
    """What people write is shown as it is."""
    await bot.command("@everyone <@4001> [click](https://evil.example) `x`", pictures=(PICTURE,))
    await bot.finish()
    [sent] = bot.api.seen()
    assert sent.mentions == {"parse": []}
    assert sent.text.startswith("\\@everyone \\<\\@4001\\> \\[click\\]\\(https\\://evil.example\\)")


async def test_token_of_an_interaction_is_in_no_stored_job_or_task(bot: Bot) -> None:
    """It is kept by itself, for as long as it works."""
    interaction = bot.api.command("a cat", pictures=(PICTURE,))
    bot.api.take_answer(interaction, (await bot.post(bot.api.signed(interaction))).json())
    key = f"token/{interaction['id']}"
    assert await bot.test.tools.state.get(key) == interaction["token"]
    await bot.test.advance(1)
    [task] = await bot.test.tasks()
    assert interaction["token"] not in json.dumps(task.to_json())
    await bot.test.advance(900)
    assert await bot.test.tools.state.get(key) is None


async def test_bot_that_may_not_write_to_the_channel_is_not_called_again(bot: Bot) -> None:
    """Each refusal would count for the ban of the address."""
    bot.api.closed.add(CHANNEL)
    for _ in range(5):
        interaction = bot.api.command("a cat", pictures=(PICTURE,))
        bot.api.unknown_tokens.add(interaction["token"])
        bot.clock.advance(11)
        bot.api.take_answer(interaction, (await bot.post(bot.api.signed(interaction))).json())
        await bot.test.advance(1)
    assert bot.api.counted == 1
    assert await bot.test.tools.state.get(f"spent/2026-01-01/user/{USER}", []) == []
