"""What the Telegram bot does with a message: its commands, who may use them, and the submission of a video."""

import asyncio
from collections.abc import Sequence
from typing import Any

from service import InvalidTask, Retry, TaskView

from ._chat_limits import Charge, charge, may_refuse, recent, refund, remember_recent
from ._chat_media import AS_IT_IS, UnusablePicture, read_picture
from ._chat_orders import BUSY, NO_VIDEO, canceled, failure_text
from ._chat_progress import MessageGone, was_shown
from ._chat_words import cap_text, is_open, progress_text
from ._telegram_bot import ChatBot, Refused, open_bot, remember_move
from ._telegram_settings import TelegramTools
from ._telegram_updates import MAX_FILE, Incoming, Photo

COMMANDS = frozenset({"video", "status", "cancel", "start", "help"})
TO_ALL_BOTS = frozenset({"start", "help"})
"""Commands that people in groups send to every bot at once: answered there only when they name this one."""

EVENTS = ("submitted", "progressed", "in_doubt", "completed", "failed", "canceled", "expired")
RECENT = 5
DOWNLOAD_TIMEOUT = 15.0
DAYS = 7 * 86_400.0

HELP = """Send one or several photos with the caption

/video a cat jumps over the fence

and they become a video. You can also reply to a photo with this command.

/status shows your newest videos
/cancel cancels the newest unfinished one; in reply to my message about a video, that video

You may make {user_daily} videos a day."""
HOW = "To make a video, send photos with a caption like this:\n\n/video a cat jumps over the fence"
NO_PROMPT = "Write behind the command what the video should show:\n\n/video a cat jumps over the fence"
REFUSAL = """Only invited users can make videos here. To be invited, send this to the operator of the bot:
user {user_id}, chat {chat_id}"""


async def handle_message(message: Incoming, tools: TelegramTools, *, last: bool) -> None:
    """Act on one message; safe to run twice. `last` is whether this is the last attempt."""
    if message.moved_to is not None:
        await remember_move(tools, message.chat_id, message.moved_to)
        return
    bot = await open_bot(tools)
    if not await is_for_this_bot(message, bot):
        return
    if not await may_spend(message, tools):
        await _refuse(message, bot, tools)
    elif message.command == "video":
        await make_video(message, message.photos, bot, tools, last=last)
    elif message.command == "status":
        await _show_status(message, bot, tools)
    elif message.command == "cancel":
        await _cancel(message, bot, tools)
    elif message.command in TO_ALL_BOTS:
        await bot.send_text(message.place, HELP.format(user_daily=tools.config.telegram_user_daily))
    else:
        await bot.send_text(message.place, HOW)


async def _refuse(message: Incoming, bot: ChatBot, tools: TelegramTools) -> None:
    """Say once an hour that a user may not spend, with the ids that the operator needs."""
    if await may_refuse(tools.state, f"{message.chat_id}/{message.user_id}"):
        await bot.send_text(message.place, REFUSAL.format(user_id=message.user_id, chat_id=message.chat_id))


async def is_for_this_bot(message: Incoming, bot: ChatBot) -> bool:
    """Return whether a message asks this bot: in a group only its commands do."""
    if message.addressed:
        return message.addressed.lower() == (await bot.username()).lower()
    return message.private or message.command in COMMANDS - TO_ALL_BOTS


async def may_spend(message: Incoming, tools: TelegramTools) -> bool:
    """Return whether its user, or its chat under its present or former id, is in the operator's lists."""
    config = tools.config
    if message.user_id in config.telegram_users or message.chat_id in config.telegram_chats:
        return True
    return bool(config.telegram_chats) and await was_allowed(message.chat_id, tools)


async def was_allowed(chat_id: int, tools: TelegramTools) -> bool:
    """Return whether a chat is in the operator's list under the id that it had before it became a supergroup."""
    return await tools.state.get(f"was/{chat_id}") in tools.config.telegram_chats


# ── /video ───────────────────────────────────────────────────────────────────


async def make_video(
    message: Incoming, photos: Sequence[Photo], bot: ChatBot, tools: TelegramTools, *, last: bool
) -> None:
    """Submit a task for a command, once for each message, and show its progress in one message.

    Faults are shown there too. Raises Retry while the service or Telegram cannot take it.
    """
    state, source = tools.state, f"{message.chat_id}/{message.message_id}"
    if await state.get(f"task/{source}"):
        return
    if not message.text:
        await bot.send_text(message.place, NO_PROMPT)
        return
    caps = {f"user/{message.user_id}": tools.config.telegram_user_daily}
    caps[f"chat/{message.chat_id}"] = tools.config.telegram_chat_daily
    charged = await charge(state, tools.now(), source, caps)
    if not isinstance(charged, Charge):
        await bot.send_text(message.place, cap_text(charged.partition("/")[0], caps[charged]))
        return
    shown = None
    try:
        shown = await _progress_message(message, len(photos), bot, tools)
        task = await _submit(message, photos, shown, bot, tools)
    except Exception as error:
        text = failure_text(error, last=last)
        if text and text != BUSY:
            await refund(state, charged)
        if text and shown is not None:
            await show(bot, message, shown, text)
        if isinstance(error, InvalidTask | UnusablePicture):
            return
        raise
    await state.set(f"task/{source}", task.id, expires_in=DAYS)
    item = {"task": task.id, "message": shown}
    await remember_recent(state, f"{message.chat_id}/{message.user_id}", item, kept=RECENT)


async def _progress_message(message: Incoming, count: int, bot: ChatBot, tools: TelegramTools) -> int:
    """Return the id of the progress message of a command, which is sent once."""
    key = f"progress/{message.chat_id}/{message.message_id}"
    shown = await tools.state.get(key)
    if shown is None:
        photos = "" if count == 0 else " with 1 photo" if count == 1 else f" with {count} photos"
        text = f"Got it{photos}. The video is in the queue."
        shown = (await bot.send_text(message.place, text)).message_id
        await tools.state.set(key, shown, expires_in=DAYS)
        await was_shown(tools.state, message=f"{message.chat_id}/{shown}", text=text)
    return int(shown)


async def show(bot: ChatBot, message: Incoming, shown: int, text: str) -> None:
    """Turn the progress message into `text`, or send it if that message is gone."""
    try:
        await bot.edit(message.chat_id, shown, text)
    except MessageGone:
        await bot.send_text(message.place, text)


async def _submit(
    message: Incoming, photos: Sequence[Photo], shown: int, bot: ChatBot, tools: TelegramTools
) -> TaskView:
    config = tools.config
    params: dict[str, Any] = {**config.telegram_params, "prompt": message.text}
    if photos:
        params["images"] = await asyncio.gather(*(download(photo, bot, tools) for photo in photos))
    events = [f"task.{name}" for name in EVENTS] + (["artifact.stored"] if config.archive_url else [])
    target = {"chat_id": message.chat_id, "thread_id": message.thread_id, "reply_to": message.message_id}
    given = {name: value for name, value in target.items() if value is not None}
    ids = {"chat_id": message.chat_id, "user_id": message.user_id, "message_id": message.message_id}
    return await tools.submit(
        model=config.telegram_model if photos else config.telegram_text_model or config.telegram_model,
        params=params,
        metadata={"telegram": ids},
        notify=[{"handler": "telegram", "events": events, "message": shown, **given}],
        idempotency_key=f"{message.chat_id}/{message.message_id}",
    )


async def download(photo: Photo, bot: ChatBot, tools: TelegramTools) -> str:
    """Return a picture of a chat as a data URI: its address contains the token, and goes to nobody.

    Raises UnusablePicture, Retry.
    """
    if photo.size > MAX_FILE:
        raise UnusablePicture("One of the files is larger than 20 MB. Send it as a photo, or a smaller one.")
    try:
        address = await bot.file_address(photo.file_id)
    except Refused as error:
        raise UnusablePicture("Telegram does not provide one of the photos any more. Send them again.") from error
    async with tools.operator_http.stream("GET", address, headers=AS_IT_IS, timeout=DOWNLOAD_TIMEOUT) as response:
        if not response.is_success:
            raise Retry(f"Telegram answered {response.status_code} to a download")
        return await read_picture(response)


# ── /status and /cancel ──────────────────────────────────────────────────────


async def _own_tasks(message: Incoming, tools: TelegramTools) -> list[tuple[TaskView, int]]:
    """Return the newest tasks of a user in this chat, each with the id of its progress message."""
    items: list[Any] = await recent(tools.state, f"{message.chat_id}/{message.user_id}")
    found = [(await tools.task(item["task"]), int(item["message"])) for item in items]
    return [(task, shown) for task, shown in found if task]


async def _show_status(message: Incoming, bot: ChatBot, tools: TelegramTools) -> None:
    lines = [
        f"• {task.created_at:%H:%M} UTC: {progress_text(task) if is_open(task) else task.status.capitalize() + '.'}"
        for task, _ in await _own_tasks(message, tools)
    ]
    await bot.send_text(message.place, "\n".join(("Your newest videos:", *lines)) if lines else HOW)


async def _cancel(message: Incoming, bot: ChatBot, tools: TelegramTools) -> None:
    tasks = await _own_tasks(message, tools)
    quoted = [task for task, shown in tasks if shown == message.quoted_id]
    chosen = quoted or [task for task, _ in tasks if is_open(task)]
    if not chosen:
        await bot.send_text(message.place, NO_VIDEO)
        return
    await bot.send_text(message.place, await canceled(chosen[0], tools))
