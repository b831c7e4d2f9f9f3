"""Transcripts of chats, from the command to the end."""

from service.sandbox import Switches
from tests.support.sample_media import image
from tests.support.sandbox_tasks import end_at_provider
from tests.support.slack_api import BOT, CHANNEL, FOREIGN, USER
from tests.unit.handlers.slack.conftest import PICTURE, VIDEO, Bot

GOT_IT = "answer: Got it. I will show the progress and the video here."


async def test_mention_with_a_picture_becomes_a_video(bot: Bot) -> None:
    """The picture goes up as bytes, progress is one message in the thread, and the file replaces it."""
    await bot.write(f"<@{BOT}> a cat jumps", pictures=(PICTURE,))
    [task] = await bot.test.tasks()
    assert task.params["prompt"] == "a cat jumps"
    assert [(each["media_type"], each["bytes"]) for each in task.params["images"]] == [("image/jpeg", len(PICTURE))]
    await bot.finish()
    assert bot.api.log == [
        f"user: [picture] <@{BOT}> a cat jumps",
        f"bot: <@{USER}> Got it with 1 picture. The video is in the queue.",
        f"edit: <@{USER}> Making the video…",
        f"bot: [file] <@{USER}> a cat jumps",
        "delete",
    ]
    [sent] = bot.api.seen()
    [command] = [each for each in bot.api.channels[CHANNEL].messages.values() if not each.by_bot]
    assert (bot.api.uploaded[sent.file], sent.thread) == (VIDEO, command.ts)


async def test_command_with_the_link_of_a_file_becomes_a_video(bot: Bot) -> None:
    """A slash command carries no files: the link of a shared one is read with the token."""
    file_id = bot.api.share(PICTURE)
    await bot.command(f"a cat jumps https://stand-in.slack.com/files/{USER}/{file_id}/cat.jpg")
    await bot.finish()
    [task] = await bot.test.tasks()
    assert (task.params["prompt"], task.params["images"][0]["bytes"]) == ("a cat jumps", len(PICTURE))
    assert bot.api.log[1:] == [
        GOT_IT,
        f"bot: <@{USER}> Got it with 1 picture. The video is in the queue.",
        f"edit: <@{USER}> Making the video…",
        f"bot: [file] <@{USER}> a cat jumps",
        "delete",
    ]


async def test_refused_user_reads_the_ids_that_the_operator_needs(bot: Bot) -> None:
    """Nobody else sees the refusal of a command; nothing is spent, and no call is made."""
    answers = {await bot.command("a cat", channel=FOREIGN) for _ in range(3)}
    words = "Only invited people can make videos here. To be invited, send this to the operator of the bot:"
    assert answers == {f"{words}\nuser U0ADA, channel C0002, workspace T0001"}
    assert (await bot.test.tasks(), bot.api.calls) == ([], [])


async def test_every_fault_of_an_invalid_request_is_a_line(bot: Bot) -> None:
    """The progress message becomes the faults, and the request does not count for the cap."""
    await bot.write(f"<@{BOT}> a cat", pictures=(image("JPEG", (100, 20)),))
    [text] = bot.api.texts()
    assert text.splitlines() == [
        f"<@{USER}> The request was not accepted:",
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
        await bot.write(f"<@{BOT}> a cat", pictures=(PICTURE,))
        await bot.finish()
        [task] = await bot.test.tasks()
        [text] = bot.api.texts()
    assert text.startswith(f"<@{USER}> ")
    assert text.endswith(f"\n\nTask {task.id}")


async def test_task_longer_than_half_an_hour_ends_in_its_channel() -> None:
    """The address for answers to the command is dead by then; it is not needed."""
    bot = Bot(switches=Switches(run_time=3600.0, tiny_videos=True, callbacks=False))
    async with bot.test:
        file_id = bot.api.share(PICTURE)
        began = bot.clock.now()
        await bot.command(f"a cat https://stand-in.slack.com/files/{USER}/{file_id}/cat.jpg")
        for _ in range(9):
            await bot.test.advance(300)
        await end_at_provider(bot.test.sandbox)
        await bot.finish()
        assert (bot.clock.now() - began).total_seconds() > 1800
    edits = [line for line in bot.api.log if line.startswith("edit: ")]
    assert len(edits) == len(set(edits)) > 1
    assert [line for line in bot.api.log if not line.startswith("edit: ")][1:] == [
        GOT_IT,
        f"bot: <@{USER}> Got it with 1 picture. The video is in the queue.",
        f"bot: [file] <@{USER}> a cat",
        "delete",
    ]
