"""A stand-in for the Bot API of Telegram: its methods, limits, error texts and updates, after its public documentation.

Sources: core.telegram.org/bots/api for methods and limits, the open source server (tdlib/telegram-bot-api, Client.cpp)
for the texts of errors. It answers `httpx` requests in memory.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from itertools import count
from typing import Any

import httpx
from PIL import Image
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

TOKEN = "123456:stand-in_token-of-the-bot"
USERNAME = "VideoBot"
PRIVATE, GROUP, FORUM = 7, -50, -1007
MAX_TEXT, MAX_CAPTION = 4096, 1024
MAX_UPLOAD, MAX_BY_URL, MAX_DOWNLOAD = 50_000_000, 20_000_000, 20_000_000
MAX_THUMBNAIL = 200_000
GROUP_A_MINUTE = 20


@dataclass(frozen=True)
class ApiError(Exception):
    """An error of the Bot API."""

    code: int
    description: str
    parameters: dict[str, int] | None = None


@dataclass(kw_only=True)
class Sent:
    """A message of the bot, or of a user."""

    id: int
    text: str = ""
    media: str = ""
    reply_to: int | None = None
    thread: int | None = None
    by_bot: bool = True
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class ChatState:
    """A chat: its type, its topics, its messages, and the times of the bot's calls."""

    kind: str = "private"
    threads: set[int] = field(default_factory=set)
    messages: dict[int, Sent] = field(default_factory=dict)
    calls: list[float] = field(default_factory=list)
    blocked: str = ""
    moved_to: int | None = None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the bot."""

    method: str
    arguments: dict[str, Any]
    files: dict[str, bytes]


class TelegramApi:
    """The Bot API for one bot. `faults` are errors that the next calls of a method get, `log` is the transcript."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._numbers, self._updates = count(100), count(9000)
        self.chats: defaultdict[int, ChatState] = defaultdict(ChatState)
        self.chats[PRIVATE] = ChatState()
        self.chats[GROUP] = ChatState(kind="group")
        self.chats[FORUM] = ChatState(kind="supergroup", threads={11, 12})
        self.files: dict[str, bytes] = {}
        self.web: dict[str, bytes] = {}
        self.faults: defaultdict[str, list[ApiError]] = defaultdict(list)
        self.calls: list[Call] = []
        self.log: list[str] = []
        self.webhook: dict[str, Any] = {}
        self.commands: list[dict[str, str]] = []

    # ── the server ───────────────────────────────────────────────────────────

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer a request to the Bot API, or to its file server."""
        path = request.url.path
        if path.startswith(f"/file/bot{TOKEN}/"):
            data = self.files.get(path.removeprefix(f"/file/bot{TOKEN}/photos/"))
            return httpx.Response(404) if data is None else httpx.Response(200, content=data)
        try:
            result = self._answer(path, request)
        except ApiError as error:
            body: dict[str, Any] = {"ok": False, "error_code": error.code, "description": error.description}
            return httpx.Response(
                error.code, json=body | ({"parameters": error.parameters} if error.parameters else {})
            )
        return httpx.Response(200, json={"ok": True, "result": result})

    def _answer(self, path: str, request: httpx.Request) -> Any:
        token, _, method = path.removeprefix("/bot").partition("/")
        if token != TOKEN:
            raise ApiError(401, "Unauthorized")
        arguments, files = _parameters(request)
        self.calls.append(Call(method=method, arguments=arguments, files=files))
        if self.faults[method]:
            raise self.faults[method].pop(0)
        answer = getattr(self, f"_{_snake(method)}", None)
        if answer is None:
            raise ApiError(404, "Not Found: method not found")
        return answer(arguments, files)

    def called(self, method: str) -> list[Call]:
        """Return all calls of a method."""
        return [call for call in self.calls if call.method == method]

    # ── methods ──────────────────────────────────────────────────────────────

    def _get_me(self, _: dict[str, Any], __: dict[str, bytes]) -> dict[str, Any]:
        return {"id": 123456, "is_bot": True, "first_name": "Video", "username": USERNAME}

    def _get_file(self, arguments: dict[str, Any], _: dict[str, bytes]) -> dict[str, Any]:
        file_id = arguments["file_id"]
        if file_id not in self.files:
            raise ApiError(400, "Bad Request: wrong file_id or the file is temporarily unavailable")
        size = len(self.files[file_id])
        if size > MAX_DOWNLOAD:
            raise ApiError(400, "Bad Request: file is too big")
        return {"file_id": file_id, "file_unique_id": "u", "file_size": size, "file_path": f"photos/{file_id}"}

    def _send_message(self, arguments: dict[str, Any], _: dict[str, bytes]) -> dict[str, Any]:
        text = _checked_text(arguments.get("text", ""))
        return self._add(arguments, text=text, media="", details={})

    def _send_video(self, arguments: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
        return self._send_media("video", arguments, files)

    def _send_photo(self, arguments: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
        return self._send_media("photo", arguments, files)

    def _edit_message_text(self, arguments: dict[str, Any], _: dict[str, bytes]) -> dict[str, Any]:
        chat = self._writable(arguments)
        text = _checked_text(arguments.get("text", ""))
        message = chat.messages.get(int(arguments["message_id"]))
        if message is None:
            raise ApiError(400, "Bad Request: message to edit not found")
        if not message.by_bot:
            raise ApiError(400, "Bad Request: message can't be edited")
        if message.text == text:
            raise ApiError(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup are exactly the "
                "same as a current content and reply markup of the message",
            )
        message.text = text
        self.log.append(f"edit: {text}")
        return self._message_json(int(arguments["chat_id"]), message)

    def _delete_message(self, arguments: dict[str, Any], _: dict[str, bytes]) -> bool:
        chat = self._writable(arguments)
        if chat.messages.pop(int(arguments["message_id"]), None) is None:
            raise ApiError(400, "Bad Request: message to delete not found")
        self.log.append("delete")
        return True

    def _set_webhook(self, arguments: dict[str, Any], _: dict[str, bytes]) -> bool:
        if not str(arguments.get("url", "")).startswith("https://"):
            raise ApiError(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        self.webhook = arguments
        return True

    def _get_webhook_info(self, _: dict[str, Any], __: dict[str, bytes]) -> dict[str, Any]:
        url = self.webhook.get("url", "")
        return {"url": url, "has_custom_certificate": False, "pending_update_count": 0}

    def _delete_webhook(self, _: dict[str, Any], __: dict[str, bytes]) -> bool:
        self.webhook = {}
        return True

    def _set_my_commands(self, arguments: dict[str, Any], _: dict[str, bytes]) -> bool:
        self.commands = list(arguments["commands"])
        return True

    def _delete_my_commands(self, _: dict[str, Any], __: dict[str, bytes]) -> bool:
        self.commands = []
        return True

    # ── rules ────────────────────────────────────────────────────────────────

    def _writable(self, arguments: dict[str, Any]) -> ChatState:
        """Return the chat of a call; raises what the server answers if the bot may not write there now."""
        chat_id = int(arguments["chat_id"])
        if chat_id not in self.chats:
            raise ApiError(400, "Bad Request: chat not found")
        chat = self.chats[chat_id]
        if chat.moved_to is not None:
            raise ApiError(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                {"migrate_to_chat_id": chat.moved_to},
            )
        if chat.blocked:
            raise ApiError(403, f"Forbidden: {chat.blocked}")
        now = self._now().timestamp()
        chat.calls = [at for at in chat.calls if at > now - 60]
        if chat.kind != "private" and len(chat.calls) >= GROUP_A_MINUTE:
            pause = int(chat.calls[0] + 60 - now) + 1
            raise ApiError(429, f"Too Many Requests: retry after {pause}", {"retry_after": pause})
        chat.calls.append(now)
        return chat

    def _add(self, arguments: dict[str, Any], *, text: str, media: str, details: dict[str, Any]) -> dict[str, Any]:
        chat = self._writable(arguments)
        thread = arguments.get("message_thread_id")
        if thread is not None and int(thread) not in chat.threads:
            raise ApiError(400, "Bad Request: message thread not found")
        reply = arguments.get("reply_parameters") or {}
        answered = reply.get("message_id")
        if answered is not None and answered not in chat.messages:
            if not reply.get("allow_sending_without_reply"):
                raise ApiError(400, "Bad Request: message to be replied not found")
            answered = None
        sent = Sent(
            id=next(self._numbers),
            text=text,
            media=media,
            reply_to=answered,
            thread=int(thread) if thread is not None else None,
            details=details,
        )
        chat.messages[sent.id] = sent
        self.log.append(f"bot: {' '.join(filter(None, (f'[{media}]' if media else '', text)))}")
        return self._message_json(int(arguments["chat_id"]), sent)

    def _send_media(self, kind: str, arguments: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
        if len(str(arguments.get("caption", "")).encode("utf-16-le")) // 2 > MAX_CAPTION:
            raise ApiError(400, "Bad Request: message caption is too long")
        data, file_id = self._media(kind, arguments, files)
        sizes = ("width", "height", "duration")
        details: dict[str, Any] = {name: arguments[name] for name in sizes if name in arguments}
        details |= {"bytes": len(data), "file_id": file_id, "thumbnail": _thumbnail(files.get("thumbnail"))}
        answer = self._add(arguments, text=arguments.get("caption", ""), media=kind, details=details)
        size = {"width": int(arguments.get("width", 320)), "height": int(arguments.get("height", 320))}
        found = {"file_id": file_id, "file_unique_id": "u", "file_size": len(data), **size}
        return answer | {kind: [found] if kind == "photo" else found | {"duration": int(arguments.get("duration", 0))}}

    def _media(self, kind: str, arguments: dict[str, Any], files: dict[str, bytes]) -> tuple[bytes, str]:
        if kind in files:
            if len(files[kind]) > MAX_UPLOAD:
                raise ApiError(413, "Request Entity Too Large")
            file_id = f"{kind}-{next(self._numbers)}"
            self.files[file_id] = files[kind]
            return files[kind], file_id
        given = str(arguments.get(kind, ""))
        if not given.startswith(("http://", "https://")):
            if given not in self.files:
                raise ApiError(400, "Bad Request: wrong file identifier/HTTP URL specified")
            return self.files[given], given
        if given not in self.web or len(self.web[given]) > MAX_BY_URL:
            raise ApiError(400, "Bad Request: failed to get HTTP URL content")
        return self.web[given], f"{kind}-{next(self._numbers)}"

    def _message_json(self, chat_id: int, sent: Sent) -> dict[str, Any]:
        chat = {"id": chat_id, "type": self.chats[chat_id].kind}
        return {"message_id": sent.id, "date": int(self._now().timestamp()), "chat": chat, "text": sent.text}

    # ── what people send ─────────────────────────────────────────────────────

    def message(
        self,
        text: str = "",
        *,
        chat: int = PRIVATE,
        user: int = 7,
        photo: bytes | None = None,
        document: bytes | None = None,
        album: str | None = None,
        thread: int | None = None,
        answers: int | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Return the update of a person's message; a text goes with a photo as its caption."""
        number = next(self._numbers)
        media = "photo" if photo else "document" if document else ""
        state = self.chats[chat]
        state.messages[number] = Sent(id=number, text=text, media=media, thread=thread, by_bot=False)
        body: dict[str, Any] = {
            "message_id": number,
            "date": int(self._now().timestamp()),
            "chat": {"id": chat, "type": state.kind},
            "from": {"id": user, "is_bot": False, "first_name": "Ada"},
        }
        if text:
            body |= {"caption" if media else "text": text}
            if text.startswith("/"):
                entity = {"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}
                body |= {"caption_entities" if media else "entities": [entity]}
        if photo:
            body["photo"] = self._sizes(photo, number)
        if document:
            self.files[f"document-{number}"] = document
            body["document"] = {
                "file_id": f"document-{number}",
                "file_unique_id": "u",
                "mime_type": "image/png",
                "file_size": len(document),
            }
        if album:
            body["media_group_id"] = album
        if thread is not None:
            body |= {"message_thread_id": thread, "is_topic_message": True}
        if answers is not None:
            body["reply_to_message"] = self._quoted(chat, answers)
        self.log.append(f"user: {' '.join(filter(None, (f'[{media}]' if media else '', text)))}")
        return self.update(body | more)

    def update(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return an update with the next id."""
        return {"update_id": next(self._updates), "message": message}

    def _sizes(self, photo: bytes, number: int) -> list[dict[str, Any]]:
        """Return a photo as Telegram does: in several sizes, the largest not always last."""
        self.files[f"small-{number}"] = b"a thumbnail"
        self.files[f"photo-{number}"] = photo
        small = {"file_id": f"small-{number}", "file_unique_id": "s", "width": 90, "height": 90, "file_size": 1000}
        large = {"file_id": f"photo-{number}", "file_unique_id": "l", "width": 1280, "height": 960}
        return [small, large | {"file_size": len(photo)}]

    def _quoted(self, chat: int, number: int) -> dict[str, Any]:
        message = self.chats[chat].messages[number]
        body: dict[str, Any] = {
            "message_id": number,
            "date": 1,
            "chat": {"id": chat, "type": self.chats[chat].kind},
            "from": {"id": 123456 if message.by_bot else 8, "is_bot": message.by_bot, "first_name": "Bob"},
        }
        if f"photo-{number}" in self.files:
            body["photo"] = self._sizes(self.files[f"photo-{number}"], number)
        return body | {"text": message.text}

    def add_message_of_bot(self, chat: int, text: str) -> int:
        """Add a message of the bot, as an earlier call did; return its id."""
        sent = Sent(id=next(self._numbers), text=text)
        self.chats[chat].messages[sent.id] = sent
        return sent.id

    def shown(self, chat: int = PRIVATE) -> Iterator[Sent]:
        """Yield the messages of the bot that a person sees now."""
        return (message for message in self.chats[chat].messages.values() if message.by_bot)

    def texts(self, chat: int = PRIVATE) -> list[str]:
        """Return the texts of the bot's messages that a person sees now."""
        return [message.text or f"[{message.media}]" for message in self.shown(chat)]


def _parameters(request: httpx.Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the parameters of a call, those in JSON decoded, and its files by the name of their parameter."""
    mimetype, options = parse_options_header(request.headers.get("content-type", ""))
    body = request.read()
    if mimetype == "application/json":
        return json.loads(body), {}
    _, form, uploads = FormDataParser(max_form_memory_size=None).parse(BytesIO(body), mimetype, len(body), options)
    files = {}
    for name, upload in uploads.items():
        files[name] = upload.read()
        upload.close()
    arguments = {name: _decoded(text) for name, text in form.items()}
    for name, text in list(arguments.items()):
        if isinstance(text, str) and text.startswith("attach://"):
            files[name] = files.pop(text.removeprefix("attach://"))
    return arguments, files


def _decoded(text: str) -> Any:
    if text[:1] in {"{", "["}:
        return json.loads(text)
    return {"true": True, "false": False}.get(text, text)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _checked_text(text: str) -> str:
    if not text.strip():
        raise ApiError(400, "Bad Request: message text is empty")
    if len(text.encode("utf-16-le")) // 2 > MAX_TEXT:
        raise ApiError(400, "Bad Request: message is too long")
    return text


def _thumbnail(data: bytes | None) -> bool:
    """Return whether a thumbnail is used: Telegram ignores one that is too large in silence."""
    if data is None or len(data) > MAX_THUMBNAIL:
        return False
    with Image.open(BytesIO(data)) as picture:
        return picture.format == "JPEG" and max(picture.size) <= 320
