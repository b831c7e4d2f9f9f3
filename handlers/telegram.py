"""Makes videos for people in Telegram: `/video` with photos in a chat, and the video as the answer.

`boomerang setup telegram` registers the webhook and the menu of commands; handlers/README.md has the settings. Each
update is stored, answered at once, and worked on by a job of any worker. A task's `notify` may name this handler with a
`chat_id` of the operator's lists too. It needs the extra `telegram`; its library is imported when it is first used.
"""

import hmac
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from service import Event, Handlers, Job, Reject, Retry, TaskView

from ._chat_progress import MessageGone, may_show, pause, was_shown
from ._chat_words import end_text, is_open, progress_text
from ._telegram_albums import collect, complete
from ._telegram_bot import EXTRA_MISSING, ChatBot, import_telegram, open_bot, telegram_installed
from ._telegram_commands import handle_message, was_allowed
from ._telegram_results import Result, send_result
from ._telegram_settings import Place, Settings, Target, TelegramTools
from ._telegram_updates import Incoming, read_update

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

NAME = "telegram"
OWN_CLIENT = f"handler:{NAME}"
"""The client of the tasks that the bot submits."""

SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105 - the name of a header
MAX_UPDATE = 256 * 1024
SEEN_FOR = timedelta(days=2)
"""How long the ids of updates are kept; Telegram repeats one for about a day."""

JOB_ATTEMPTS = 8
SEND_TIMEOUT = 900.0
"""Seconds for the upload of the largest result, and what is done around it."""

STORED_WITHIN = timedelta(minutes=3)
"""How long a completed task waits for its stored file, before the provider's is sent."""

PROGRESS = frozenset({"task.submitted", "task.progressed", "task.in_doubt"})
ENDS = frozenset({"task.failed", "task.canceled", "task.expired"})

handlers = Handlers()


def _check(_: object) -> str | None:
    return None if telegram_installed() else EXTRA_MISSING


# ── events ───────────────────────────────────────────────────────────────────


@handlers.on(
    name=NAME,
    timeout=SEND_TIMEOUT,
    concurrency=4,
    settings=Settings,
    options=Target,
    by_request=True,
    for_clients=True,
    check=_check,
)
async def telegram(event: Event, tools: TelegramTools) -> None:
    """Show the progress of a task in its chat, then send its results there, or say why there are none."""
    target = await _allowed_target(event, tools)
    bot = await open_bot(tools)
    if event.type in PROGRESS:
        if is_open(event.task):  # past its deadline a task has progress too
            await _show_progress(progress_text(event.task), target, bot, tools)
    elif event.type in ENDS:
        await _show_end(end_text(event.task), target, bot, tools)
    elif event.type == "artifact.stored":
        await _send_stored(event, target, bot, tools)
    elif event.type == "task.completed" and _waits_for_file(target, tools):
        await _show_progress("Finished. Storing the video…", target, bot, tools)
        data = {
            "client": None if event.client == OWN_CLIENT else event.client,
            "target": target.model_dump(mode="json"),
        }
        await tools.schedule("unstored", f"{event.task.id}/{target.chat_id}", data, after=STORED_WITHIN)
    elif event.type == "task.completed":
        await _send_results(event.task, range(len(event.task.output)), target, bot, tools)


def _waits_for_file(target: Target, tools: TelegramTools) -> bool:
    """Return whether a later event brings the stored file."""
    return bool(tools.config.archive_url) and (target.events is None or "artifact.stored" in target.events)


async def _allowed_target(event: Event, tools: TelegramTools) -> Target:
    """Return where the event goes; raises Reject for a client's chat that the operator does not list."""
    target = tools.options
    if target is None:
        raise Reject("the event names no chat")
    listed = tools.config.telegram_chats | tools.config.telegram_users
    if event.client == OWN_CLIENT:
        return target
    if target.chat_id in listed or await was_allowed(target.chat_id, tools):
        return target.model_copy(update={"message": None})  # messages of the bot are no matter of other clients
    raise Reject("the chat is not in BOOMERANG_TELEGRAM_CHATS or BOOMERANG_TELEGRAM_USERS")


async def _send_stored(event: Event, target: Target, bot: ChatBot, tools: TelegramTools) -> None:
    """Send the result of a stored artifact; without ARCHIVE_URL it was sent when the task was completed."""
    if not tools.config.archive_url:
        return
    url = event.artifact.url if event.artifact else ""
    indexes = [index for index, item in enumerate(event.task.output) if item.get("url") == url]
    await _send_results(event.task, indexes or range(len(event.task.output)), target, bot, tools)
    stored = [await tools.state.get(_result(event.task, index, target).key) for index in range(len(event.task.output))]
    if all(stored):
        await tools.unschedule("unstored", f"{event.task.id}/{target.chat_id}")


def _result(task: TaskView, index: int, target: Target) -> Result:
    place = Place(chat_id=target.chat_id, thread_id=target.thread_id, reply_to=target.reply_to)
    return Result(task=task, index=index, place=place, caption=target.caption)


async def _send_results(
    task: TaskView,
    indexes: Iterable[int],
    target: Target,
    bot: ChatBot,
    tools: TelegramTools,
    *,
    attempt: int | None = None,
) -> None:
    """Send results, then delete the progress message."""
    if not task.output:
        raise Reject("the task is completed, and no result came with it")
    for index in indexes:
        await send_result(_result(task, index, target), bot, tools, attempt=attempt or tools.attempt)
    if target.message is not None:
        try:
            await bot.delete(target.chat_id, target.message)
        except Reject:
            tools.log.info("the progress message could not be deleted")


async def _show_progress(text: str, target: Target, bot: ChatBot, tools: TelegramTools) -> None:
    """Edit the progress message not too often. A failed edit is not repeated: the next event shows more."""
    if target.message is None:
        return
    chat, message = str(target.chat_id), f"{target.chat_id}/{target.message}"
    if not await may_show(tools.state, chat=chat, message=message, text=text):
        return
    try:
        await bot.edit(target.chat_id, target.message, text)
    except Retry as error:
        if error.after:
            await pause(tools.state, chat=chat, after=error.after)
        tools.log.info("progress was not shown: %s", error)
    except Reject as error:  # the end of the task is what has to arrive
        tools.log.info("progress was not shown: %s", error)
    else:
        await was_shown(tools.state, message=message, text=text)


async def _show_end(text: str, target: Target, bot: ChatBot, tools: TelegramTools) -> None:
    """Turn the progress message into the final text; send it if there is no such message."""
    if target.message is not None:
        message = f"{target.chat_id}/{target.message}"
        if not await may_show(tools.state, chat=str(target.chat_id), message=message, text=text, final=True):
            return
        try:
            await bot.edit(target.chat_id, target.message, text)
        except MessageGone:
            tools.log.info("the progress message is gone")
        else:
            await was_shown(tools.state, message=message, text=text)
            return
    place = Place(chat_id=target.chat_id, thread_id=target.thread_id, reply_to=target.reply_to)
    await bot.send_text(place, text)


# ── the webhook and its jobs ─────────────────────────────────────────────────


@handlers.route("POST", "/webhook", name=NAME, max_body=MAX_UPDATE)
async def webhook(request: "Request", tools: TelegramTools) -> "Response":
    """Store an update durably and answer; a repeated one is answered only. Raises HTTPException(401)."""
    from starlette.exceptions import HTTPException  # noqa: PLC0415 - a process without a port does not need it
    from starlette.responses import Response  # noqa: PLC0415 - the same

    given = request.headers.get(SECRET_HEADER, "").encode()
    if not hmac.compare_digest(given, tools.config.webhook_secret.encode()):
        raise HTTPException(401)
    await import_telegram()
    try:
        message = read_update(json.loads(await request.body()))
    except (ValueError, RecursionError):
        tools.log.warning("telegram sent an update that cannot be read")  # it would be repeated for a day
        return Response()
    if message is None or not _may_concern_bot(message):
        return Response()
    seen = f"update/{message.update_id}"
    if await tools.state.get(seen):
        return Response()
    if message.album:
        await collect(message, tools)
    else:
        await tools.schedule("message", str(message.update_id), message.model_dump())
    await tools.state.add(seen, expires_in=SEEN_FOR)  # afterwards: a repeat of an update that was not stored counts
    return Response()


def _may_concern_bot(message: Incoming) -> bool:
    """Return whether a message may concern the bot: in groups most do not."""
    return bool(message.private or message.command or message.album or message.moved_to)


@handlers.job("message", name=NAME, attempts=JOB_ATTEMPTS, timeout=180)
async def message(job: Job, tools: TelegramTools) -> None:
    """Act on one message, once, although two processes may have received it at the same time."""
    if await tools.state.get(f"done/{job.key}"):
        return
    await handle_message(Incoming.model_validate(job.data), tools, last=job.attempt >= JOB_ATTEMPTS)
    await tools.state.add(f"done/{job.key}", expires_in=SEEN_FOR)


@handlers.job("album", name=NAME, attempts=JOB_ATTEMPTS, timeout=300)
async def album(job: Job, tools: TelegramTools) -> None:
    """Act on a complete album."""
    await complete(job, tools, last=job.attempt >= JOB_ATTEMPTS)


@handlers.job("unstored", name=NAME, attempts=JOB_ATTEMPTS, timeout=SEND_TIMEOUT)
async def unstored(job: Job, tools: TelegramTools) -> None:
    """Send the results of a task whose files were not stored in time."""
    task = await tools.task(job.key.partition("/")[0], client=job.data["client"])
    if task is None:
        raise Reject("there is no such task any more")
    target = Target.model_validate(job.data["target"])
    bot = await open_bot(tools)
    await _send_results(task, range(len(task.output)), target, bot, tools, attempt=job.attempt)
