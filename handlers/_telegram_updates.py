"""Reads updates of Telegram with python-telegram-bot into the few facts that the bot acts on."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ._telegram_settings import Place

if TYPE_CHECKING:
    from telegram import Message

MAX_FILE = 20_000_000
"""Bytes of a file that a bot may download."""


class Photo(BaseModel):
    """A picture of a chat: its file id, and its size in bytes where it is known."""

    model_config = ConfigDict(frozen=True)

    file_id: str
    size: int = 0


class Incoming(BaseModel):
    """A message to the bot.

    `command` is in lower case without the slash, empty without one; `addressed` is the bot that it names behind `@`.
    `photo` is its own picture, `quoted` that of the message which it answers. `album` is the id that all pictures of an
    album share. `moved_to` is the new id of a group that became a supergroup. `user_id` is that of the chat or channel
    in whose name the message was sent, if any.
    """

    model_config = ConfigDict(frozen=True)

    update_id: int
    chat_id: int
    private: bool
    message_id: int
    thread_id: int | None = None
    user_id: int
    command: str = ""
    addressed: str = ""
    text: str = ""
    photo: Photo | None = None
    quoted: Photo | None = None
    quoted_id: int | None = None
    album: str | None = None
    moved_to: int | None = None

    @property
    def place(self) -> Place:
        """Return where the answer goes."""
        return Place(chat_id=self.chat_id, thread_id=self.thread_id, reply_to=self.message_id)

    @property
    def photos(self) -> list[Photo]:
        """Return its pictures, its own first."""
        return [photo for photo in (self.photo, self.quoted) if photo]


def read_update(body: Any) -> Incoming | None:
    """Return the message of an update, None for anything that the bot does not act on.

    Raises ValueError for a body that is no update. `telegram` must have been imported.
    """
    from telegram import Update  # noqa: PLC0415 - heavy

    try:
        update = Update.de_json(dict(body), None)
        return None if update.message is None else _incoming(int(update.update_id), update.message)
    except (TypeError, LookupError, AttributeError, OverflowError, OSError) as error:
        raise ValueError(f"the update cannot be read: {type(error).__name__}") from error


def _incoming(update_id: int, message: "Message") -> Incoming | None:
    """Return the facts of a message; None for one of another bot, and for a channel's that was forwarded by itself."""
    sender = message.sender_chat or message.from_user
    other_bot = message.via_bot or (message.sender_chat is None and message.from_user and message.from_user.is_bot)
    if sender is None or other_bot or message.is_automatic_forward:
        return None
    command, addressed, text = _command(message)
    quoted = message.reply_to_message
    return Incoming(
        update_id=update_id,
        chat_id=message.chat.id,
        private=message.chat.type == "private",
        message_id=message.message_id,
        # an answer outside of topics has an id of a thread too, at which nothing can be sent
        thread_id=message.message_thread_id if message.is_topic_message else None,
        user_id=sender.id,
        command=command,
        addressed=addressed,
        text=text,
        photo=photo_of(message),
        quoted=photo_of(quoted) if quoted else None,
        quoted_id=quoted.message_id if quoted else None,
        album=message.media_group_id,
        moved_to=message.migrate_to_chat_id,
    )


def _command(message: "Message") -> tuple[str, str, str]:
    """Return the command of a text or caption, the bot that it names, and the text behind it."""
    text = message.text or message.caption or ""
    for entity in message.entities or message.caption_entities:
        if entity.type == "bot_command" and entity.offset == 0:  # a command is ASCII: its length needs no conversion
            name, _, addressed = text[1 : entity.length].partition("@")
            return name.lower(), addressed, text[entity.length :].strip()
    return "", "", text.strip()


def photo_of(message: "Message") -> Photo | None:
    """Return the largest picture of a message that a bot may download; a file counts if it claims to be one."""
    sizes = [size for size in message.photo if (size.file_size or 0) <= MAX_FILE]
    if sizes:
        best = max(sizes, key=lambda size: (size.width * size.height, size.file_size or 0))
        return Photo(file_id=best.file_id, size=best.file_size or 0)
    document = message.document
    if document and (document.mime_type or "").startswith("image/"):
        return Photo(file_id=document.file_id, size=document.file_size or 0)
    return None
