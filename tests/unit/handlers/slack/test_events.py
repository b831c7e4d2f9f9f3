"""Events of a task in Slack: how often progress is edited, errors, limits, uploads, files of people, and webhooks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from handlers._chat_results import Result
from handlers._slack_api import open_slack
from handlers._slack_results import Channel
from handlers._slack_settings import Target
from service import Content, InvalidTask
from service.testing import Outcome, sample_event, sample_task
from tests.support.slack_api import BOT, CHANNEL, FOREIGN, OUTSIDER, USER, WEBHOOK, Limited, SlackError
from tests.unit.handlers.slack.conftest import PICTURE, VIDEO, Bot

OWN = "handler:slack"
OUTPUT = [{"type": "video", "url": "https://media.example/a.mp4"}]


async def deliver(
    bot: Bot, type_: str, *, client: str = OWN, message_id: str | None = None, target: Any = None, **changes: Any
) -> Outcome:
    """Deliver an event of a task; `changes` are its fields, `target` the `notify` entry, by default a channel."""
    task = sample_task(type_, **{"note": None, "id": "task-1", **changes})
    entry = {"channel": CHANNEL, "user": USER, "comment": "a cat"} if target is None else target
    return await bot.test.deliver(sample_event(type_, task=task, client=client), target=entry, message_id=message_id)


async def progress_message(bot: Bot) -> dict[str, Any]:
    """Return a target with a progress message."""
    await bot.command("a cat https://example.org/a.jpg")
    [sent] = bot.api.seen()
    return {"channel": CHANNEL, "message": sent.ts, "user": USER}


# ── progress ─────────────────────────────────────────────────────────────────


async def test_progress_is_edited_every_four_seconds_and_only_to_another_text(bot: Bot) -> None:
    """A burst of events is one edit; a skipped one is not made up for."""
    target = await progress_message(bot)
    for step in range(40):
        bot.clock.advance(1)
        given: dict[str, Any] = {"status": "in_progress", "progress": step // 4 / 10}
        assert (await deliver(bot, "task.progressed", target=target, **given)).delivered
    assert 9 <= len(bot.api.called("chat.update")) <= 12


async def test_limit_of_a_method_pauses_that_method_alone(bot: Bot) -> None:
    """Slack limits each method by itself; an edit that is refused is not repeated."""
    target = await progress_message(bot)
    bot.clock.advance(5)
    before = len(bot.api.called("chat.update"))
    bot.api.faults["chat.update"] = [Limited(30)]
    for step in range(1, 30):
        given: dict[str, Any] = {"status": "in_progress", "progress": step / 100}
        assert (await deliver(bot, "task.progressed", target=target, **given)).delivered
        bot.clock.advance(1)
    assert len(bot.api.called("chat.update")) == before + 1
    end = await deliver(bot, "task.canceled", target=target)
    assert (end.outcome, end.after) == ("retry", 1)
    assert (await deliver(bot, "task.canceled", id="task-2")).delivered
    bot.clock.advance(1)
    assert (await deliver(bot, "task.canceled", target=target)).delivered
    assert len(bot.api.called("chat.update")) == before + 2


@pytest.mark.parametrize("word", ["message_not_found", "cant_update_message", "edit_window_closed"])
async def test_end_is_sent_anew_when_the_progress_message_cannot_be_changed(bot: Bot, word: str) -> None:
    """Somebody may delete it, and a workspace may forbid late edits."""
    target = await progress_message(bot)
    bot.api.faults["chat.update"] = [SlackError(word)]
    assert (await deliver(bot, "task.canceled", target=target)).delivered
    assert bot.api.texts()[-1] == f"<@{USER}> Canceled."


# ── errors ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "word", ["not_in_channel", "channel_not_found", "is_archived", "restricted_action", "msg_too_long"]
)
async def test_fault_of_the_destination_is_a_dead_letter(bot: Bot, word: str) -> None:
    """Another attempt cannot help, and a person can read why."""
    bot.api.faults["chat.postMessage"] = [SlackError(word)]
    outcome = await deliver(bot, "task.canceled")
    assert (outcome.outcome, word in str(outcome.error)) == ("dead", True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SlackError("invalid_auth"), "BOOMERANG_SLACK_TOKEN"),
        (SlackError("account_inactive"), "BOOMERANG_SLACK_TOKEN"),
        (SlackError("token_expired"), "BOOMERANG_SLACK_TOKEN"),
        (SlackError("missing_scope"), "compare it with `boomerang setup slack`"),
        (SlackError("internal_error"), "internal_error"),
        (SlackError("service_unavailable"), "service_unavailable"),
        (SlackError("a_word_of_tomorrow"), "a_word_of_tomorrow"),
        (Limited(17), "fewer requests"),
    ],
)
async def test_what_may_pass_is_tried_again(bot: Bot, error: Exception, words: str) -> None:
    """The operator can replace a token; nothing is lost meanwhile."""
    bot.api.faults["chat.postMessage"] = [error]
    outcome = await deliver(bot, "task.canceled")
    assert (outcome.outcome, words in str(outcome.error)) == ("retry", True)
    assert outcome.after == 17 or not isinstance(error, Limited)


@pytest.mark.parametrize(
    "page",
    [
        httpx.Response(502, text="<html>"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, content=b"{" + b" " * 2_000_000),
        httpx.Response(429, text="", headers={"retry-after": "soon"}),
    ],
)
async def test_answer_that_is_not_slacks_is_tried_again(bot: Bot, monkeypatch: pytest.MonkeyPatch, page: Any) -> None:
    """A proxy may answer with HTML, and an answer may be endless."""
    monkeypatch.setattr(bot.api, "respond", lambda _: page)
    assert (await deliver(bot, "task.canceled")).outcome == "retry"


async def test_clients_may_write_to_listed_channels_only(bot: Bot) -> None:
    """A client that knows the id of a channel cannot write to it unless the operator lists it."""
    bot.api.channels[FOREIGN].member = True
    assert (await deliver(bot, "task.canceled", client="ada", target={"channel": FOREIGN})).outcome == "dead"
    assert (await deliver(bot, "task.canceled", client="ada", target={"channel": CHANNEL})).delivered
    assert bot.api.texts(FOREIGN) == []


async def test_clients_change_no_message_of_the_bot(bot: Bot) -> None:
    """A client may guess the id of a message that shows somebody else's task."""
    target = await progress_message(bot)
    assert (await deliver(bot, "task.canceled", client="ada", target=target)).outcome == "dead"
    assert "Canceled." not in bot.api.texts()[0]


# ── uploads ──────────────────────────────────────────────────────────────────


async def test_replay_sends_the_file_again_and_a_repeated_attempt_does_not(bot: Bot) -> None:
    """The result is remembered by its delivery."""
    for message_id in ("m1", "m1", "m2"):
        assert (await deliver(bot, "task.completed", output=OUTPUT, message_id=message_id)).delivered
    assert bot.api.texts() == [f"[file] <@{USER}> a cat"] * 2
    assert [*bot.api.uploaded.values()] == [VIDEO] * 2


async def test_upload_that_could_not_be_shared_is_sent_anew(bot: Bot) -> None:
    """The third step may be limited: the file is not in the channel yet."""
    bot.api.faults["files.completeUploadExternal"] = [Limited(9)]
    assert (await deliver(bot, "task.completed", output=OUTPUT)).after == 9
    bot.clock.advance(9)
    assert (await deliver(bot, "task.completed", output=OUTPUT)).delivered
    assert bot.api.texts() == [f"[file] <@{USER}> a cat"]


async def test_file_that_was_shared_before_its_answer_was_lost_is_not_sent_twice(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack knows whether it was shared."""
    respond = bot.api.respond

    def lose_answer(request: httpx.Request) -> httpx.Response:
        answer = respond(request)
        return httpx.Response(504) if "completeUpload" in request.url.path else answer

    with monkeypatch.context() as patch:
        patch.setattr(bot.api, "respond", lose_answer)
        assert (await deliver(bot, "task.completed", output=OUTPUT, message_id="m1")).outcome == "retry"
    assert (await deliver(bot, "task.completed", output=OUTPUT, message_id="m1")).delivered
    assert bot.api.texts() == [f"[file] <@{USER}> a cat"]


@pytest.mark.parametrize("shares", [True, False])
async def test_file_that_slack_accepts_and_does_not_share_becomes_a_link(bot: Bot, *, shares: bool) -> None:
    """The answer to the third step is no proof: a minute later the bot checks."""
    await bot.write(f"<@{BOT}> a cat", pictures=(PICTURE,))
    bot.api.shares = shares
    await bot.finish()
    await bot.test.advance(61)
    [text] = bot.api.texts()
    assert text.startswith(f"[file] <@{USER}> a cat" if shares else f"<@{USER}> The video cannot be sent here.")
    await bot.test.advance(61)
    assert len(bot.api.texts()) == 1


@pytest.mark.parametrize(
    ("answer", "outcome", "shown"),
    [
        (httpx.Response(500), "retry", []),
        (httpx.Response(400, text="invalid upload"), "retry", []),
        (httpx.Response(413), "delivered", ["https://media.example/a.mp4"]),
    ],
)
async def test_address_for_the_bytes_may_refuse_them(
    bot: Bot, answer: httpx.Response, outcome: str, shown: list[str]
) -> None:
    """The next attempt gets a fresh address; a file that is too large becomes a link."""
    bot.api.upload_faults = [answer]
    assert (await deliver(bot, "task.completed", output=OUTPUT)).outcome == outcome
    assert [text.splitlines()[-1] for text in bot.api.texts()] == shown


@pytest.mark.parametrize("word", ["file_uploads_disabled", "storage_limit_reached", "file_upload_size_restricted"])
async def test_workspace_that_takes_no_files_gets_a_link(bot: Bot, word: str) -> None:
    """Not a dead letter: the person can still download it."""
    bot.api.upload_words = [word]
    assert (await deliver(bot, "task.completed", output=OUTPUT)).delivered
    [text] = bot.api.texts()
    assert text.endswith("Download it here, for a short time only:\nhttps://media.example/a.mp4")


async def test_result_above_the_set_limit_is_a_link() -> None:
    """Without a request for an upload."""
    bot = Bot({"SLACK_MAX_UPLOAD_MB": "1"})
    async with bot.test:
        bot.media = b"x" * 1_000_001
        assert (await deliver(bot, "task.completed", output=OUTPUT)).delivered
        assert bot.api.called("files.getUploadURLExternal") == []
        assert "The video is too large for this chat (1 MB)." in bot.api.texts()[0]


@pytest.mark.parametrize("size", [1_000_001, None])
async def test_stored_result_above_the_limit_is_a_signed_link(size: int | None) -> None:
    """Also where its length turns out while it is read; the link is valid for a week."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500_000

    @asynccontextmanager
    async def content(*_: Any, **__: Any) -> AsyncIterator[Content]:
        yield Content(
            name="a.mp4",
            media_type="video/mp4",
            size=size,
            sha256=None,
            stored=True,
            chunks=chunks(),
            make_link=lambda valid: f"https://video.example/links/{valid.days}",
        )

    bot = Bot({"SLACK_MAX_UPLOAD_MB": "1"})
    async with bot.test:
        tools = replace(bot.test.tools, content=content)
        target = Target.model_validate({"handler": "slack", "channel": CHANNEL})
        channel = Channel(target=target, api=await open_slack(tools), tools=tools)
        task = sample_task("task.completed", output=OUTPUT)
        await channel.send_result(Result(task=task, index=0, chat=channel.key), attempt=1)
        [text] = bot.api.texts()
        assert text.endswith("Download it here, for 7 days:\nhttps://video.example/links/7")
        assert bot.api.uploads == {}


async def test_address_that_cannot_be_read_is_sent_in_the_end(bot: Bot) -> None:
    """The person may reach it although the service does not."""
    bot.media = None
    event = sample_event("task.completed", task=sample_task("task.completed", output=OUTPUT), client=OWN)
    outcomes = [await bot.test.deliver(event, target={"channel": CHANNEL}, attempt=each) for each in (1, 2, 3)]
    assert [each.outcome for each in outcomes] == ["retry", "retry", "delivered"]
    assert "https://media.example/a.mp4" in bot.api.texts()[0]


# ── files of people ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("file", "allowed"),
    [
        ({"user": OUTSIDER, "channel": FOREIGN}, False),
        ({"user": USER, "channel": FOREIGN}, True),
        ({"user": OUTSIDER, "channel": CHANNEL}, True),
    ],
)
async def test_link_of_a_file_works_for_those_who_can_see_it(bot: Bot, file: dict[str, str], *, allowed: bool) -> None:
    """The bot sees files of all its channels, its users do not: a link must not make a video of another's file."""
    file_id = bot.api.share(PICTURE, **file)
    await bot.command(f"a cat https://stand-in.slack.com/files/{USER}/{file_id}/cat.jpg")
    assert len(await bot.test.tasks()) == allowed
    assert allowed or "One of the links leads to another." in bot.api.texts()[0]


@pytest.mark.parametrize(
    "more",
    [
        {"is_external": True, "url_private": "https://evil.example/a.jpg", "url_private_download": ""},
        {"url_private": "https://evil.example/a.jpg", "url_private_download": "https://evil.example/a.jpg"},
        {"url_private_download": "https://slack.com@evil.example/a.jpg"},
        {"url_private_download": "https://evil.example:443/.slack.com/a.jpg"},
        {"url_private_download": "http://files.slack.com/a.jpg"},
        {"url_private_download": "https://files.slack.com:99999999/a.jpg"},
        {"url_private_download": "https://[::1.slack.com/a.jpg"},
    ],
)
async def test_token_goes_to_slack_only(bot: Bot, more: dict[str, Any]) -> None:
    """A file may be kept elsewhere, by somebody who would like to have the token."""
    event = bot.api.message(f"<@{BOT}> a cat", pictures=(PICTURE,))
    [file] = event["event"]["files"]
    bot.api.files[file["id"]].update(more)
    await bot.post("/events", bot.api.signed_event(event))
    await bot.test.advance(3)
    assert bot.api.texts()[0].startswith(f"<@{USER}> I cannot read one of the pictures.")
    assert bot.media_requests == []


async def test_file_without_the_scope_is_explained(bot: Bot) -> None:
    """Slack answers with its page for signing in, and the status 200."""
    file_id = bot.api.share(PICTURE)
    answer = {"id": file_id, "user": USER, "url_private": f"https://files.slack.com/files-pri/T0001-{file_id}/a.jpg"}
    bot.api.files[file_id] = answer
    bot.api.data.clear()
    await bot.command(f"a cat https://files.slack.com/files-pri/T0001-{file_id}/cat.jpg")
    assert "I cannot read one of the pictures." in bot.api.texts()[0]


async def test_prompt_cannot_mention_anybody(bot: Bot) -> None:
    """What people write is shown as it is."""
    await bot.write(f"<@{BOT}> &lt;!channel&gt; a cat", pictures=(PICTURE,))
    await bot.finish()
    [task] = await bot.test.tasks()
    assert task.params["prompt"] == "<!channel> a cat"
    assert bot.api.texts() == [f"[file] <@{USER}> &lt;!channel&gt; a cat"]


# ── incoming webhooks ────────────────────────────────────────────────────────


async def test_webhook_of_a_client_gets_the_end_with_a_link(bot: Bot) -> None:
    """It takes texts only, and its progress could not be changed."""
    target = {"url": WEBHOOK, "comment": "<b> cat"}
    for type_ in ("task.submitted", "task.progressed"):
        assert (await deliver(bot, type_, client="ada", target=target)).delivered
    assert (await deliver(bot, "task.completed", client="ada", target=target, output=OUTPUT)).delivered
    assert bot.api.log == [
        "webhook: &lt;b&gt; cat\nThe video is ready. Download it here, for a short time only:\nhttps://media.example/a.mp4"
    ]
    assert all("authorization" not in request.headers for request in bot.test.requests)


@pytest.mark.parametrize(
    ("answer", "outcome", "after"),
    [
        (httpx.Response(404, text="no_service"), "dead", None),
        (httpx.Response(410, text="channel_is_archived"), "dead", None),
        (httpx.Response(403, text="action_prohibited"), "dead", None),
        (httpx.Response(400, text="invalid_payload"), "dead", None),
        (httpx.Response(429, headers={"retry-after": "12"}), "retry", 12),
        (httpx.Response(500, text="rollup_error"), "retry", None),
    ],
)
async def test_answers_of_a_webhook(bot: Bot, answer: httpx.Response, outcome: str, after: float | None) -> None:
    """An error word is kept; the address is in no error."""
    bot.api.webhook = answer
    found = await deliver(bot, "task.canceled", client="ada", target={"url": WEBHOOK})
    assert found.outcome == outcome
    assert after is None or found.after == after
    assert answer.text in str(found.error)
    assert "stand-in" not in str(found.error)


async def test_operators_webhook_gets_the_end_of_every_task() -> None:
    """Without a token too."""
    bot = Bot({"SLACK_TOKEN": "", "SLACK_SIGNING_SECRET": "", "SLACK_WEBHOOK_URL": WEBHOOK})
    async with bot.test:
        assert (await bot.test.deliver(sample_event("task.canceled", client="ada"))).delivered
        assert [body["text"] for body in bot.api.posted] == ["Canceled."]
        request = bot.api.command("a cat")
        assert (await bot.post("/command", request)).status_code == 401


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "needs a channel, or the url of an incoming webhook"),
        ({"channel": CHANNEL, "url": WEBHOOK}, "needs a channel, or the url"),
        ({"channel": "#general"}, "must match pattern"),
        ({"url": WEBHOOK, "message": "1.2"}, "a webhook has its own"),
        ({"url": "ftp://example.org"}, "url"),
        ({"chanel": CHANNEL}, r"did you mean channel\?"),
    ],
)
async def test_wrong_notify_entry_is_refused_at_the_submission(bot: Bot, entry: dict[str, str], words: str) -> None:
    """The fault names the field."""
    with pytest.raises(InvalidTask, match=words):
        await bot.test.tools.submit(
            model="viduq2_pro_reference",
            params={"prompt": "a cat", "images": ["https://example.org/a.jpg"]},
            notify=[{"handler": "slack", **entry}],
        )
