"""Collects the pictures of an album in the database: each is an update of its own, perhaps at another process.

Telegram sends neither a count nor an end, and siblings have come more than five seconds apart. So an album is complete
when nothing came for QUIET, at the earliest AT_LEAST and at the latest AT_MOST after its first picture.
"""

from typing import Any

from service import Job

from ._telegram_bot import open_bot
from ._telegram_commands import handle_message, is_for_this_bot, make_video, may_spend
from ._telegram_settings import TelegramTools
from ._telegram_updates import Incoming, Photo

QUIET, AT_LEAST, AT_MOST = 2.5, 7.0, 12.0
"""Seconds."""

MAX_PHOTOS = 30
"""Entries of an album: repeated updates are entries too, and are removed when it is complete."""

KEPT = 86_400.0
LATE = "This photo came too late for its album: the video is made without it. /cancel cancels that video."


async def collect(message: Incoming, tools: TelegramTools) -> None:
    """Store one picture of an album, and let the album be completed later."""
    if not message.command and not await may_spend(message, tools):
        return
    state, key = tools.state, f"{message.chat_id}/{message.album}"
    if message.command:
        await state.set(f"command/{key}", message.model_dump(), expires_in=KEPT)
    now = tools.now().timestamp()
    photo = message.photo.model_dump() if message.photo else None
    item = {"id": message.message_id, "at": now, "photo": photo}
    items = await state.append(f"album/{key}", item, max_items=MAX_PHOTOS, expires_in=KEPT)
    if items is None:
        return
    after = max(QUIET, AT_LEAST - (now - items[0]["at"]))
    await tools.schedule("album", key, message.model_dump(), after=after, within=AT_MOST)


async def complete(job: Job, tools: TelegramTools, *, last: bool) -> None:
    """Act on an album with all its pictures that have come, in the order in which they were sent; safe to run twice."""
    state = tools.state
    found = Incoming.model_validate(await state.get(f"command/{job.key}") or job.data)
    if found.command != "video" or not await may_spend(found, tools):
        await handle_message(found, tools, last=last)
        return
    bot = await open_bot(tools)
    if not await is_for_this_bot(found, bot):
        return
    items: list[Any] = await state.get(f"album/{job.key}", [])
    photos = {item["id"]: item["photo"] for item in sorted(items, key=lambda item: int(item["id"]))}
    await state.add(f"closed/{job.key}", list(photos), expires_in=KEPT)
    closed: list[int] = await state.get(f"closed/{job.key}", [])
    if late := set(photos) - set(closed):
        await bot.send_text(found.model_copy(update={"message_id": max(late)}).place, LATE)
    usable = [Photo.model_validate(photos[each]) for each in closed if photos.get(each)]
    await make_video(found, [*usable, *([found.quoted] if found.quoted else [])], bot, tools, last=last)
