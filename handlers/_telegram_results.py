"""Sends the results of a task to a chat of Telegram.

In this order: a file that Telegram has already, by its id; the content, uploaded; the provider's address, which
Telegram fetches itself; a link.
"""

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from service import Content, Reject

from ._chat_media import TooLarge, video_facts
from ._chat_results import (
    ATTEMPTS_OF_CONTENT,
    LINK_FOR,
    TaskResult,
    Unavailable,
    content_file,
    link_message,
    opened,
    upload_time,
)
from ._chat_words import shorten
from ._telegram_bot import ChatBot, Refused, mentions
from ._telegram_settings import MAX_CAPTION, Place, TelegramTools

if TYPE_CHECKING:
    from telegram import InputFile, Message

MAX_UPLOAD = 50_000_000
"""Bytes of an upload."""

MAX_THUMBNAIL = 200_000
KEPT = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Result(TaskResult):
    """One result of a task, and where it goes."""

    place: Place
    caption: str = ""

    @property
    def key(self) -> str:
        """Return the key of what is remembered of it."""
        return f"sent/{self.task.id}/{self.index}/{self.place.chat_id}"

    @property
    def kind(self) -> str:
        """Return `image` or `video`."""
        return "image" if self.task.output[self.index].get("type") == "image" else "video"


async def send_result(result: Result, bot: ChatBot, tools: TelegramTools, *, attempt: int) -> None:
    """Send one result, once for each delivery: a replay sends it again. Raises Retry, Reject."""
    seen = await tools.state.get(result.key) or {}
    if seen and seen["by"] in {tools.message_id, ""}:
        await tools.state.set(result.key, {**seen, "by": tools.message_id}, expires_in=KEPT)
        return
    file_id = await _send_known(result, str(seen.get("file_id") or ""), bot)
    if file_id is None:
        file_id = await _send(result, bot, tools, attempt)
    await tools.state.set(result.key, {"by": tools.message_id, "file_id": file_id}, expires_in=KEPT)


async def _send_known(result: Result, file_id: str, bot: ChatBot) -> str | None:
    """Send a file that Telegram has; return its id, None if there is none or Telegram does not know it any more."""
    try:
        return _file_id(await _send_file(result, file_id, bot)) if file_id else None
    except Refused:
        return None


async def _send(result: Result, bot: ChatBot, tools: TelegramTools, attempt: int) -> str:
    """Send a result by the first way that works; return its file id at Telegram, empty for a link."""
    try:
        return await _upload(result, bot, tools)
    except TooLarge as error:
        return await _send_link(result, error, bot)
    except Unavailable as error:
        if not result.url or (attempt < ATTEMPTS_OF_CONTENT and not isinstance(error.reason, Reject)):
            raise error.reason from error
        tools.log.info("content unavailable, telegram fetches it: %s", error.reason)
    except Refused as error:
        tools.log.info("telegram refused an upload: %s", error)
    if result.url:
        try:
            return _file_id(await _send_file(result, result.url, bot))
        except Refused as error:
            tools.log.info("telegram refused an address: %s", error)
    return await _send_link(result, TooLarge(None), bot)


async def _upload(result: Result, bot: ChatBot, tools: TelegramTools) -> str:
    """Upload the content; return its file id. Raises TooLarge with a link, Unavailable, Refused, Retry, Reject."""
    from telegram import InputFile  # noqa: PLC0415 - heavy

    async with (
        opened(result, tools, max_bytes=MAX_UPLOAD) as content,
        content_file(content, max_bytes=MAX_UPLOAD) as (file, size),
    ):
        arguments = await _video_arguments(file, content, tools) if result.kind == "video" else {}
        upload = InputFile(file, filename=content.name, read_file_handle=False)
        try:
            async with upload_time(size):
                return _file_id(await _send_file(result, upload, bot, **arguments))
        except Refused as error:
            if mentions(error, ("too large", "too big")):
                raise TooLarge(size, content.link(LINK_FOR)) from error
            raise


async def _video_arguments(file: IO[bytes], content: Content, tools: TelegramTools) -> dict[str, Any]:
    """Return what Telegram does not find out itself of larger videos: without it they are shown as a square."""
    from telegram import InputFile  # noqa: PLC0415 - heavy

    facts = await video_facts(file)
    arguments: dict[str, Any] = {"supports_streaming": True}
    if facts:
        arguments |= {"width": facts.width, "height": facts.height, "duration": facts.seconds}
    try:
        poster = await content.poster()
    except Exception as error:  # noqa: BLE001 - a video without its poster is better than none
        tools.log.warning("a poster could not be made: %s", type(error).__name__)
        poster = None
    if poster and len(poster) < MAX_THUMBNAIL:
        arguments["thumbnail"] = InputFile(poster, filename="poster.jpg")
    return arguments


async def _send_file(result: Result, file: "InputFile | str", bot: ChatBot, **arguments: Any) -> "Message":
    method, name = ("send_photo", "photo") if result.kind == "image" else ("send_video", "video")
    return await bot.send(
        method, result.place, caption=shorten(result.caption, MAX_CAPTION) or None, **{name: file}, **arguments
    )


def _file_id(message: "Message") -> str:
    """Return the id of the file in a sent message; Telegram makes an animation of a video without sound."""
    sent = message.video or message.animation or message.document or (message.photo[-1] if message.photo else None)
    return sent.file_id if sent else ""


async def _send_link(result: Result, reason: TooLarge, bot: ChatBot) -> str:
    """Send the address of the content, else the provider's; raises Reject if there is neither."""
    await bot.send_text(result.place, link_message(result, reason))
    return ""
