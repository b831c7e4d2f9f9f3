"""Events of a task in its chat: how often progress is edited, the words at the end, and what each error becomes."""

from typing import Any

import pytest

from service.testing import Outcome, sample_event, sample_task
from tests.support.telegram_api import FORUM, GROUP, PRIVATE, ApiError
from tests.unit.handlers.telegram.conftest import Bot

OWN = "handler:telegram"


async def deliver(bot: Bot, type_: str = "task.progressed", *, chat: int = PRIVATE, **changes: Any) -> Outcome:
    """Deliver an event of a task of the bot with a progress message; `changes` are fields of the task."""
    given = {"chat_id": chat, "reply_to": 5, **({"message": changes.pop("message")} if "message" in changes else {})}
    event = sample_event(type_, task=sample_task(type_, **{"note": None, "id": "task-1", **changes}), client=OWN)
    return await bot.test.deliver(event, target=given)


def progress_message(bot: Bot, chat: int = PRIVATE) -> int:
    """Return the id of a message of the bot."""
    return bot.api.add_message_of_bot(chat, "Got it.")


async def test_progress_is_edited_every_four_seconds_and_only_to_another_text(bot: Bot) -> None:
    """A burst of events is one edit; a skipped one is not made up for."""
    shown = progress_message(bot)
    for step in range(40):
        assert (await deliver(bot, message=shown, progress=step // 4 / 10)).delivered
        bot.clock.advance(1)
    edits = [line for line in bot.api.log if line.startswith("edit")]
    assert edits == ["edit: Making the video…", *(f"edit: Making the video… {step}0%" for step in range(1, 10))]


async def test_tasks_of_one_group_share_its_edits(bot: Bot) -> None:
    """A group allows twenty messages a minute: three tasks in it do not use three times as many."""
    shown = [progress_message(bot, GROUP) for _ in range(3)]
    for step in range(60):
        for number in shown:
            await deliver(bot, chat=GROUP, message=number, progress=step / 100)
        bot.clock.advance(1)
    assert len(bot.api.called("editMessageText")) <= 16


async def test_flood_control_pauses_progress_and_sends_nothing_else(bot: Bot) -> None:
    """The answer to flood control is silence: neither another message nor a retry of the edit."""
    shown = progress_message(bot)
    bot.api.faults["editMessageText"] = [ApiError(429, "Too Many Requests: retry after 30", {"retry_after": 30})]
    assert (await deliver(bot, message=shown, progress=0.1)).delivered
    for step in range(2, 30):
        bot.clock.advance(1)
        assert (await deliver(bot, message=shown, progress=step / 100)).delivered
    assert len(bot.api.called("editMessageText")) == 1
    bot.clock.advance(2)
    await deliver(bot, message=shown, progress=0.9)
    assert bot.api.texts() == ["Making the video… 90%"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("content", "content policy refused"),
        ("input", "could not use the request"),
        ("credit", "is empty"),
        ("provider", "The provider failed"),
        ("timeout", "took too long"),
        ("unknown", "could not be made"),
    ],
)
async def test_failure_is_explained_by_its_kind(bot: Bot, kind: str, words: str) -> None:
    """The progress message becomes the reason and what to do, with the task's id for the operator."""
    shown = progress_message(bot)
    error = {"kind": kind, "code": "x", "message": "<b>the prompt</b> " + "y" * 9000}
    assert (await deliver(bot, "task.failed", message=shown, error=error)).delivered
    [text] = bot.api.texts()
    assert words in text
    assert text.endswith("Task task-1")
    assert ("The provider says: <b>the prompt</b>" in text) is (kind in {"content", "input", "unknown"})
    assert all("parse_mode" not in call.arguments for call in bot.api.calls)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("task.canceled", "Canceled."),
        ("task.expired", "The provider has not finished in time. If a result still arrives, it is sent here."),
    ],
)
async def test_end_replaces_the_progress_message_once(bot: Bot, type_: str, text: str) -> None:
    """An attempt that is repeated after it had succeeded changes nothing."""
    shown = progress_message(bot)
    for _ in range(2):
        assert (await deliver(bot, type_, message=shown)).delivered
    assert bot.api.texts() == [text]
    assert len(bot.api.called("editMessageText")) == 1


async def test_text_that_is_there_already_is_a_success(bot: Bot) -> None:
    """An edit whose answer was lost is answered with "message is not modified" the next time."""
    shown = progress_message(bot)
    bot.api.chats[PRIVATE].messages[shown].text = "Canceled."
    assert (await deliver(bot, "task.canceled", message=shown)).delivered


async def test_end_is_sent_anew_when_the_progress_message_was_deleted(bot: Bot) -> None:
    """A user may delete it; progress is then not shown, and the end is an answer to the command."""
    assert (await deliver(bot, message=77)).delivered
    assert bot.api.texts() == []
    assert (await deliver(bot, "task.canceled", message=77)).delivered
    assert bot.api.texts() == ["Canceled."]


@pytest.mark.parametrize(
    "reason", ["bot was blocked by the user", "user is deactivated", "bot was kicked from the group chat"]
)
async def test_chat_that_keeps_the_bot_out_is_a_dead_letter(bot: Bot, reason: str) -> None:
    """Another attempt cannot help, and a person can read why."""
    bot.api.chats[PRIVATE].blocked = reason
    outcome = await deliver(bot, "task.canceled")
    assert (outcome.outcome, reason in str(outcome.error).lower()) == ("dead", True)


async def test_progress_for_a_chat_that_keeps_the_bot_out_is_no_dead_letter(bot: Bot) -> None:
    """A task has many of these events; one dead letter, of its end, is enough."""
    shown = progress_message(bot)
    bot.api.chats[PRIVATE].blocked = "bot was blocked by the user"
    assert (await deliver(bot, message=shown)).delivered


async def test_unknown_chat_is_a_dead_letter(bot: Bot) -> None:
    """A wrong id in a `notify` entry."""
    del bot.api.chats[PRIVATE]
    assert (await deliver(bot, "task.canceled")).outcome == "dead"


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (ApiError(429, "Too Many Requests: retry after 17", {"retry_after": 17}), 17),
        (ApiError(429, "Too Many Requests"), 5),
        (ApiError(429, "Too Many Requests", {"retry_after": 10**9}), 3600),
        (ApiError(500, "Internal Server Error"), None),
        (ApiError(502, "Bad Gateway"), None),
        (ApiError(401, "Unauthorized"), None),
    ],
)
async def test_temporary_errors_are_tried_again(bot: Bot, error: ApiError, after: float | None) -> None:
    """Flood control after the pause that it asks for, up to an hour; the others by the schedule."""
    bot.api.faults["sendMessage"] = [error]
    outcome = await deliver(bot, "task.canceled")
    assert outcome.outcome == "retry"
    assert after is None or outcome.after == after
    assert "BOOMERANG_TELEGRAM_TOKEN" in str(outcome.error) or error.code != 401
    assert (await deliver(bot, "task.canceled")).delivered


async def test_group_that_became_a_supergroup_is_remembered(bot: Bot) -> None:
    """The message goes to the new id at once, and later ones go there first; who was allowed still is."""
    bot.api.chats[GROUP].moved_to = -10050
    bot.api.chats[-10050].kind = "supergroup"
    for _ in range(2):
        assert (await deliver(bot, "task.canceled", chat=GROUP)).delivered
    assert bot.api.texts(-10050) == ["Canceled."] * 2
    assert [call.arguments["chat_id"] for call in bot.api.called("sendMessage")] == ["-50", "-10050", "-10050"]
    await bot.write("/status", chat=-10050, user=99)
    assert bot.api.texts(-10050)[-1].startswith("To make a video")


async def test_service_message_of_a_migration_is_enough(bot: Bot) -> None:
    """The update comes before anything is sent to the old id."""
    await bot.receive(bot.api.message(chat=GROUP, migrate_to_chat_id=-10051))
    bot.api.chats[-10051].kind = "supergroup"
    await bot.write("/status", chat=-10051, user=99)
    assert bot.api.texts(-10051)[-1].startswith("To make a video")


async def test_clients_may_send_only_to_listed_chats(bot: Bot) -> None:
    """A client of the API that knows the id of a chat cannot write to it unless the operator lists it."""
    task = sample_task("task.failed")
    for chat, outcome in ((FORUM, "delivered"), (PRIVATE, "delivered"), (8, "dead")):
        found = await bot.test.deliver(sample_event("task.failed", task=task, client="ada"), target={"chat_id": chat})
        assert found.outcome == outcome
    assert bot.api.texts(8) == []


async def test_clients_change_no_message_of_the_bot(bot: Bot) -> None:
    """A client may guess the id of a message that shows somebody else's task: it gets a message of its own."""
    shown = progress_message(bot)
    event = sample_event("task.canceled", task=sample_task("task.canceled"), client="ada")
    assert (await bot.test.deliver(event, target={"chat_id": PRIVATE, "message": shown})).delivered
    assert bot.api.texts() == ["Got it.", "Canceled."]
