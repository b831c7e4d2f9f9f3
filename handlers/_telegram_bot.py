"""Calls the Bot API with python-telegram-bot, which is imported when it is first used.

Its requests go through the service's own HTTP client, so that the guard on addresses, the proxy and the certificates of
the settings hold. Errors become `Retry`, `Reject`, or one of the two classes here that a caller can act on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx

from service import Reject, Retry

from ._chat_progress import MessageGone
from ._chat_words import shorten
from ._telegram_settings import Place, Settings, TelegramTools

if TYPE_CHECKING:
    from telegram import Bot, Message
    from telegram.error import TelegramError

EXTRA_MISSING = "the library of Telegram is not installed; run: pip install 'boomerang-service[telegram]'"
MAX_TEXT = 4096
"""UTF-16 code units of a message."""

GONE = ("message to edit not found", "message can't be edited", "message_id_invalid", "message to delete not found")
NO_THREAD = ("message thread not found", "topic_closed", "topic_deleted")
FORBIDDEN = (
    *("chat not found", "user not found", "peer_id_invalid", "chat_write_forbidden", "have no rights to send"),
    *("not enough rights", "need administrator rights", "chat_restricted", "group chat was deactivated"),
)
MIGRATED_FOR = 366 * 86_400.0
"""Seconds for which the new id of a group is remembered."""


class Refused(Reject):
    """Telegram did not take a request, such as a file, its address or its id; the text is its reason."""


def telegram_installed() -> bool:
    """Return whether python-telegram-bot is installed, without importing it."""
    return find_spec("telegram") is not None


async def import_telegram() -> None:
    """Import python-telegram-bot in a thread: it takes about 0.3 s of CPU, which would block the event loop.

    Raises Retry if it is not installed.
    """
    if not telegram_installed():
        raise Retry(EXTRA_MISSING)
    await asyncio.to_thread(import_module, "._telegram_requests", __package__)


@dataclass(frozen=True, kw_only=True)
class ChatBot:
    """Sends to chats. `bot` is the library's object; each method maps its errors."""

    bot: "Bot"
    tools: TelegramTools

    async def send(self, method: str, place: Place, **arguments: Any) -> "Message":
        """Call a method that sends a message; return it. The new id of a migrated group is remembered and used.

        Raises Retry, Reject, Refused.
        """
        from telegram import ReplyParameters  # noqa: PLC0415 - heavy
        from telegram.error import BadRequest  # noqa: PLC0415 - heavy

        async def call(chat_id: int, thread_id: int | None) -> Any:
            answers = place.reply_to and ReplyParameters(message_id=place.reply_to, allow_sending_without_reply=True)
            send = getattr(self.bot, method)
            return await send(
                chat_id=chat_id, message_thread_id=thread_id, reply_parameters=answers or None, **arguments
            )

        async def call_in_thread(chat_id: int) -> Any:
            try:
                return await call(chat_id, place.thread_id)
            except BadRequest as error:
                if place.thread_id is None or not mentions(error, NO_THREAD):
                    raise
                return await call(chat_id, None)

        message: Message = await self._in_chat(place.chat_id, call_in_thread)
        return message

    async def send_text(self, place: Place, text: str) -> "Message":
        """Send a text without any markup and without previews of links; return the message."""
        from telegram import LinkPreviewOptions  # noqa: PLC0415 - heavy

        text = shorten(text, MAX_TEXT)
        return await self.send("send_message", place, text=text, link_preview_options=LinkPreviewOptions(True))

    async def edit(self, chat_id: int, message_id: int, text: str) -> None:
        """Replace the text of a message of the bot; the same text is no error. Raises MessageGone, Retry, Reject."""

        async def call(chat_id: int) -> None:
            await self.bot.edit_message_text(shorten(text, MAX_TEXT), chat_id=chat_id, message_id=message_id)

        await self._in_chat(chat_id, call)

    async def delete(self, chat_id: int, message_id: int) -> None:
        """Delete a message of the bot. Raises MessageGone, Retry, Reject."""

        async def call(chat_id: int) -> None:
            await self.bot.delete_message(chat_id=chat_id, message_id=message_id)

        await self._in_chat(chat_id, call)

    async def file_address(self, file_id: str) -> str:
        """Return the address of a file of a chat. It contains the token. Raises Refused, Retry."""

        async def call(_: int) -> str:
            return str((await self.bot.get_file(file_id)).file_path or "")

        address: str = await self._in_chat(0, call)
        return address

    async def username(self) -> str:
        """Return the bot's own name, which is asked once a day."""
        name = await self.tools.state.get("username")
        if name is None:

            async def call(_: int) -> str:
                return str((await self.bot.get_me()).username or "")

            name = await self._in_chat(0, call)
            await self.tools.state.set("username", name, expires_in=86_400)
        return str(name)

    async def _in_chat(self, chat_id: int, call: Callable[[int], Awaitable[Any]]) -> Any:
        """Call with the present id of a chat, and again with its new one if it has migrated; map errors."""
        from telegram.error import ChatMigrated, TelegramError  # noqa: PLC0415 - heavy

        state = self.tools.state
        present = int(await state.get(f"moved/{chat_id}", chat_id)) if chat_id else 0
        try:
            try:
                return await call(present)
            except ChatMigrated as moved:
                await remember_move(self.tools, chat_id, moved.new_chat_id)
                return await call(moved.new_chat_id)
        except TelegramError as error:
            if mentions(error, ("message is not modified",)):
                return None
            raise mapped(error) from error


async def remember_move(tools: TelegramTools, old: int, new: int) -> None:
    """Remember that a group has a new id: answers go to the new one, and who was allowed in the old one still is."""
    await tools.state.set(f"moved/{old}", new, expires_in=MIGRATED_FOR)
    await tools.state.set(f"was/{new}", old, expires_in=MIGRATED_FOR)


async def open_bot(tools: TelegramTools) -> ChatBot:
    """Return the bot of the settings; raises Retry if its library is missing."""
    await import_telegram()
    return ChatBot(bot=make_bot(tools.config, tools.operator_http), tools=tools)


def make_bot(config: Settings, http: httpx.AsyncClient) -> "Bot":
    """Return the library's bot, whose requests go through `http`. The library must have been imported."""
    from telegram import Bot  # noqa: PLC0415 - heavy

    from ._telegram_requests import OperatorRequest  # noqa: PLC0415 - heavy

    request = OperatorRequest(http)
    return Bot(
        config.telegram_token.get_secret_value(),
        base_url=f"{config.telegram_url}/bot",
        base_file_url=f"{config.telegram_url}/file/bot",
        request=request,
        get_updates_request=request,
    )


# ── errors ───────────────────────────────────────────────────────────────────


def mentions(error: Exception, texts: tuple[str, ...]) -> bool:
    """Return whether Telegram's description of an error contains one of `texts`, in lower case."""
    message = str(error).lower()
    return any(text in message for text in texts)


def mapped(error: "TelegramError") -> Exception:
    """Return the exception for an error of the Bot API."""
    from telegram.error import BadRequest, Forbidden, InvalidToken  # noqa: PLC0415 - heavy

    from ._telegram_requests import FloodControl  # noqa: PLC0415 - heavy

    found: Exception = Retry(f"Telegram could not be reached or failed: {str(error)[:200]}")
    if isinstance(error, FloodControl):
        found = Retry("Telegram asks for fewer messages", after=error.pause)
    elif isinstance(error, InvalidToken):
        found = Retry("Telegram does not accept BOOMERANG_TELEGRAM_TOKEN; set the token that @BotFather shows")
    elif isinstance(error, Forbidden) or mentions(error, FORBIDDEN):
        found = Reject(f"Telegram does not let the bot write to this chat: {error}")
    elif mentions(error, GONE):
        found = MessageGone(str(error))
    elif isinstance(error, BadRequest) or mentions(error, ("too large", "too big")):
        found = Refused(str(error))
    return found
