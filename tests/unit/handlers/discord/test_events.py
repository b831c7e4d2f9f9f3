"""Events of a task in Discord: limits, errors, sizes, webhooks, and who may be written to."""

from typing import Any

import httpx
import pytest

from service import InvalidTask
from service.testing import Outcome, sample_event, sample_task
from tests.support.discord_api import CHANNEL, OTHER_CHANNEL, USER, WEBHOOK, ApiError, Limited
from tests.unit.handlers.discord.conftest import VIDEO, Bot

OWN = "handler:discord"
OUTPUT = [{"type": "video", "url": "https://media.example/a.mp4"}]


async def deliver(
    bot: Bot, type_: str, *, client: str = OWN, message_id: str | None = None, target: Any = None, **changes: Any
) -> Outcome:
    """Deliver an event of a task; `changes` are its fields, `target` the `notify` entry, by default a channel."""
    task = sample_task(type_, **{"note": None, "id": "task-1", **changes})
    entry = {"channel": CHANNEL, "user": USER, "comment": "a cat"} if target is None else target
    return await bot.test.deliver(sample_event(type_, task=task, client=client), target=entry, message_id=message_id)


async def test_event_without_an_interaction_is_a_message_of_the_bot(bot: Bot) -> None:
    """A task of the API may name a channel."""
    assert (await deliver(bot, "task.completed", output=OUTPUT)).delivered
    [sent] = bot.api.seen()
    assert (sent.text, sent.file, sent.mentions) == (f"<@{USER}> a cat", VIDEO, {"parse": [], "users": [USER]})


async def test_late_end_without_a_token_names_the_setting() -> None:
    """The delivery can be replayed once the token is set."""
    bot = Bot({"DISCORD_TOKEN": ""})
    async with bot.test:
        outcome = await deliver(bot, "task.completed", output=OUTPUT, target={"channel": CHANNEL, "interaction": "7"})
        assert (outcome.outcome, "set BOOMERANG_DISCORD_TOKEN" in str(outcome.error)) == ("dead", True)
        assert bot.api.requests == []


async def test_attempt_that_is_repeated_sends_nothing_again_and_a_replay_does(bot: Bot) -> None:
    """The result is remembered by its delivery."""
    for message_id in ("m1", "m1", "m2"):
        assert (await deliver(bot, "task.completed", output=OUTPUT, message_id=message_id)).delivered
    assert len(bot.api.seen()) == 2


@pytest.mark.parametrize(
    ("error", "after", "everywhere"),
    [(Limited(7.25), 7.25, False), (Limited(3.5, everywhere=True), 3.5, True)],
)
async def test_limit_is_obeyed_by_every_later_call(bot: Bot, error: Limited, after: float, *, everywhere: bool) -> None:
    """Neither the same nor, for a global one, another route is called until it ends: each refusal counts."""
    bot.api.faults["POST channels"] = [error]
    outcome = await deliver(bot, "task.canceled")
    assert (outcome.outcome, outcome.after) == ("retry", after)
    bot.clock.advance(1)
    assert (await deliver(bot, "task.canceled")).after == after - 1
    other = await deliver(bot, "task.canceled", target={"url": WEBHOOK}, client="ada")
    assert other.delivered is not everywhere
    assert len([each for each in bot.api.requests if "/channels/" in str(each.url)]) == 1
    bot.clock.advance(after)
    assert (await deliver(bot, "task.canceled")).delivered
    assert bot.api.counted == 1


async def test_last_allowed_call_of_a_route_is_followed_by_none(bot: Bot) -> None:
    """The headers say so before a refusal does."""
    outcomes = [await deliver(bot, "task.canceled", id=f"task-{number}") for number in range(7)]
    assert [each.outcome for each in outcomes] == ["delivered"] * 5 + ["retry"] * 2
    assert bot.api.counted == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ApiError(403, 50013, "Missing Permissions"), "dead"),
        (ApiError(404, 10003, "Unknown Channel"), "dead"),
        (ApiError(400, 50035, "Invalid Form Body"), "dead"),
        (ApiError(401, 0, "401: Unauthorized"), "retry"),
        (ApiError(500, 0, "500: Internal Server Error"), "retry"),
        (ApiError(504, 0, ""), "retry"),
    ],
)
async def test_errors_are_the_destinations_or_may_pass(bot: Bot, error: ApiError, outcome: str) -> None:
    """What another attempt cannot help is a dead letter; a token may be replaced."""
    bot.api.faults["POST channels"] = [error]
    assert (await deliver(bot, "task.canceled")).outcome == outcome


async def test_token_that_discord_refuses_is_not_sent_again(bot: Bot) -> None:
    """Ten thousand of these in ten minutes ban the address."""
    bot.api.token = "another"
    for _ in range(20):
        outcome = await deliver(bot, "task.canceled")
        assert "BOOMERANG_DISCORD_TOKEN" in str(outcome.error)
    assert bot.api.counted == 1


async def test_answer_of_a_proxy_pauses_everything(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ban of the address is a page without JSON."""
    page = httpx.Response(429, text="<html>", headers={"retry-after": "600"})
    with monkeypatch.context() as patch:
        patch.setattr(bot.api, "respond", lambda _: page)
        assert (await deliver(bot, "task.canceled")).after == 600
    assert (await deliver(bot, "task.canceled", target={"url": WEBHOOK}, client="ada")).after == 600
    assert bot.api.requests == []


async def test_file_above_the_limit_of_the_interaction_is_a_link(bot: Bot) -> None:
    """The provider's address, where nothing is stored."""
    target = {"channel": CHANNEL, "limit": len(VIDEO) - 1}
    assert (await deliver(bot, "task.completed", output=OUTPUT, target=target)).delivered
    [text] = bot.api.texts()
    assert text.endswith("Download it here, for a short time only:\nhttps://media.example/a.mp4")


async def test_limit_that_discord_does_not_keep_ends_as_a_link(bot: Bot) -> None:
    """It has named a larger limit than it accepts."""
    bot.api.size_limit = len(VIDEO) - 1
    assert (await deliver(bot, "task.completed", output=OUTPUT)).delivered
    [text] = bot.api.texts()
    assert "https://media.example/a.mp4" in text


async def test_address_that_cannot_be_read_is_sent_in_the_end(bot: Bot) -> None:
    """The person may reach it although the service does not."""
    bot.media = None
    target = {"channel": CHANNEL}
    event = sample_event("task.completed", task=sample_task("task.completed", output=OUTPUT), client=OWN)
    outcomes = [await bot.test.deliver(event, target=target, attempt=each) for each in (1, 2, 3)]
    assert [each.outcome for each in outcomes] == ["retry", "retry", "delivered"]
    assert "https://media.example/a.mp4" in bot.api.texts()[0]


async def test_clients_may_write_to_listed_channels_only(bot: Bot) -> None:
    """A client that knows the id of a channel cannot write to it unless the operator lists it."""
    bot.api.closed.clear()
    assert (await deliver(bot, "task.canceled", client="ada", target={"channel": OTHER_CHANNEL})).outcome == "dead"
    assert (await deliver(bot, "task.canceled", client="ada", target={"channel": CHANNEL})).delivered
    assert bot.api.texts(OTHER_CHANNEL) == []


@pytest.mark.parametrize("field", ["interaction", "message"])
async def test_clients_change_no_answer_and_no_message_of_the_bot(bot: Bot, field: str) -> None:
    """The id of an interaction is public, and its answer may be in a channel that is not listed."""
    target = {"channel": CHANNEL, field: "123"}
    assert (await deliver(bot, "task.canceled", client="ada", target=target)).outcome == "dead"
    assert bot.api.requests == []


async def test_old_message_that_was_edited_too_often_is_sent_anew(bot: Bot) -> None:
    """Discord limits the edits of messages older than an hour, whatever the headers say."""
    bot.api.faults["PATCH channels"] = [ApiError(400, 30046, "Maximum number of edits to messages older than 1 hour")]
    assert (await deliver(bot, "task.canceled", target={"channel": CHANNEL, "message": "123"})).delivered
    assert bot.api.texts() == ["Canceled."]


# ── webhooks ─────────────────────────────────────────────────────────────────


async def test_webhook_has_one_message_that_becomes_the_video(bot: Bot) -> None:
    """Its progress is edited, not too often."""
    target = {"url": WEBHOOK, "comment": "a cat"}
    for step in range(8):
        await deliver(bot, "task.progressed", client="ada", target=target, status="in_progress", progress=step / 10)
        bot.clock.advance(1)
    assert (await deliver(bot, "task.completed", client="ada", target=target, output=OUTPUT)).delivered
    assert bot.api.log == [
        "webhook: a cat\nMaking the video…",
        "webhook edit: a cat\nMaking the video… 40%",
        "webhook edit: [file] a cat",
    ]
    assert bot.api.webhook is not None
    [sent] = bot.api.webhook.values()
    assert (sent.file, sent.mentions) == (VIDEO, {"parse": []})
    assert all("authorization" not in request.headers for request in bot.api.requests)


async def test_webhook_message_that_was_deleted_is_sent_anew(bot: Bot) -> None:
    """Somebody may delete it meanwhile."""
    target = {"url": WEBHOOK}
    await deliver(bot, "task.progressed", client="ada", target=target, status="in_progress")
    bot.api.webhook = {}
    assert (await deliver(bot, "task.failed", client="ada", target=target)).delivered
    assert len(bot.api.webhook) == 1


async def test_webhook_that_is_gone_is_never_called_again(bot: Bot) -> None:
    """Discord asks for that; a new address is another one."""
    bot.api.webhook = None
    for days in range(5):
        outcome = await deliver(bot, "task.canceled", client="ada", target={"url": WEBHOOK}, id=f"task-{days}")
        assert (outcome.outcome, "make a new one" in str(outcome.error)) == ("dead", True)
        await bot.test.advance(40 * 86_400)
    assert len(bot.api.requests) == 1
    bot.api.webhook = {}
    other = {"url": f"{WEBHOOK}?thread_id=77"}
    assert (await deliver(bot, "task.canceled", client="ada", target=other)).delivered
    assert str(bot.api.requests[-1].url).endswith("?wait=true&thread_id=77")


async def test_operators_webhook_shows_every_task() -> None:
    """Without the settings of the application too."""
    bot = Bot({"DISCORD_APPLICATION_ID": "", "DISCORD_PUBLIC_KEY": "", "DISCORD_WEBHOOK_URL": WEBHOOK})
    async with bot.test:
        event = sample_event("task.completed", task=sample_task("task.completed", output=OUTPUT), client="ada")
        assert (await bot.test.deliver(event)).delivered
        assert bot.api.webhook is not None
        assert [sent.file for sent in bot.api.webhook.values()] == [VIDEO]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "needs a channel, or the url of a webhook"),
        ({"channel": CHANNEL, "url": WEBHOOK}, "needs a channel, or the url of a webhook"),
        ({"channel": "general"}, "must match pattern"),
        ({"url": "https://evil.example/api/webhooks/1/x"}, "must be a webhook of Discord"),
        ({"url": f"{WEBHOOK}?wait=false"}, "must be a webhook of Discord"),
        ({"url": WEBHOOK, "message": "1"}, "a webhook has its own"),
        ({"chanel": CHANNEL}, "did you mean channel?"),
    ],
)
async def test_wrong_notify_entry_is_refused_at_the_submission(bot: Bot, entry: dict[str, str], words: str) -> None:
    """The fault names the field."""
    with pytest.raises(InvalidTask, match=words.replace("?", r"\?")):
        await bot.test.tools.submit(
            model="viduq2_pro_reference",
            params={"prompt": "a cat", "images": ["https://example.org/a.jpg"]},
            notify=[{"handler": "discord", **entry}],
        )
