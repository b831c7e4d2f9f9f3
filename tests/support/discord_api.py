"""A stand-in for the API of Discord: its routes, limits, error codes and interactions, after its public documentation.

Sources: docs.discord.com (discord/discord-api-docs) for routes, signatures, rate limits and codes of errors. It answers
`httpx` requests in memory.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from itertools import count
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = PRIVATE_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
APPLICATION, SERVER, CHANNEL, OTHER_CHANNEL, USER, OTHER_USER = "1000", "2000", "3000", "3001", "4000", "4001"
TOKEN = "stand-in.token-of.the-bot_12345"
WEBHOOK_TOKEN = "stand-in_of-a-webhook"
WEBHOOK = f"https://discord.com/api/webhooks/5000/{WEBHOOK_TOKEN}"
EPOCH = 1_420_070_400_000
TOKEN_FOR = 900.0
MAX_TEXT = 2000
SIZE_LIMIT = 10 * 1024 * 1024
CALLS, SECONDS = 5, 5.0
"""Calls of a route within these seconds."""

AGENT = re.compile(r"DiscordBot \(https?://\S+, \S+\)")


@dataclass(frozen=True)
class ApiError(Exception):
    """An error of the API: its status, and the code and message in its body."""

    status: int
    code: int
    message: str = ""


@dataclass(frozen=True)
class Limited(Exception):
    """A request was refused for this many seconds; with `everywhere` for the whole API."""

    seconds: float
    everywhere: bool = False


@dataclass(kw_only=True)
class Sent:
    """A message of the bot or of a webhook."""

    id: str
    text: str
    file: bytes | None = None
    name: str = ""
    mentions: dict[str, Any] = field(default_factory=dict)
    only_for: str = ""


@dataclass(kw_only=True)
class Interaction:
    """An interaction: its token, when it was made, whether it has been answered, and the answer."""

    token: str
    at: float
    user: str
    answered: bool = False
    answer: Sent | None = None


@dataclass(frozen=True, kw_only=True)
class DiscordRequest:
    """A request of Discord to the bot."""

    content: bytes
    headers: dict[str, str]


class DiscordApi:
    """The API for one bot. `faults` are errors that the next calls of a method get, `log` is the transcript."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._numbers = count(1)
        self.channels: dict[str, dict[str, Sent]] = {CHANNEL: {}, OTHER_CHANNEL: {}}
        self.closed: set[str] = {OTHER_CHANNEL}
        self.interactions: dict[str, Interaction] = {}
        self.unknown_tokens: set[str] = set()
        self.webhook: dict[str, Sent] | None = {}
        self.files: dict[str, bytes] = {}
        self.faults: defaultdict[str, list[Exception]] = defaultdict(list)
        self.requests: list[httpx.Request] = []
        self.log: list[str] = []
        self.counted = 0
        self.size_limit = SIZE_LIMIT
        self.files_at = "https://cdn.discordapp.com"
        self.token = TOKEN
        self.commands: list[dict[str, Any]] = []
        self.endpoint: str | None = None
        self._calls: defaultdict[str, list[float]] = defaultdict(list)

    # ── the server ───────────────────────────────────────────────────────────

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer a request to the API, or to the server of attachments."""
        path = request.url.path
        if path.startswith("/attachments/"):
            data = self.files.get(path)
            return httpx.Response(404) if data is None else httpx.Response(200, content=data)
        self.requests.append(request)
        headers: dict[str, str] = {}
        try:
            answer = self._answer(re.sub(r"^/api(/v\d+)?", "", path), request, headers)
        except ApiError as error:
            self.counted += error.status in {401, 403}
            return httpx.Response(error.status, json={"message": error.message, "code": error.code}, headers=headers)
        except Limited as error:
            self.counted += 1
            body = {"message": "You are being rate limited.", "retry_after": error.seconds, "global": error.everywhere}
            scope = {"x-ratelimit-scope": "global" if error.everywhere else "user"}
            return httpx.Response(429, json=body, headers={"retry-after": str(int(error.seconds) + 1), **scope})
        if answer is None:
            return httpx.Response(204, headers=headers)
        return httpx.Response(200, json=answer, headers=headers)

    def _answer(self, path: str, request: httpx.Request, headers: dict[str, str]) -> Any:
        if not AGENT.fullmatch(request.headers.get("user-agent", "")):
            raise ApiError(403, 40333, "internal network error")
        name = f"{request.method} {path.split('/')[1]}"
        if self.faults[name]:
            raise self.faults[name].pop(0)
        self._limit(f"{request.method} {path}", headers)
        parts = path.strip("/").split("/")
        if parts[0] == "webhooks":
            take = self._interaction if parts[1] == APPLICATION else self._webhook
            return take(request, parts[2], parts[3:])
        return self._as_bot(parts, request)

    def _as_bot(self, parts: list[str], request: httpx.Request) -> Any:
        if request.headers.get("authorization") != f"Bot {self.token}":
            raise ApiError(401, 0, "401: Unauthorized")
        if parts[0] == "channels":
            return self._channel(request, parts[1], parts[3:])
        if parts == ["applications", "@me"]:
            return {"id": APPLICATION, "name": "Video", "interactions_endpoint_url": self.endpoint}
        if parts != ["applications", APPLICATION, "commands"]:
            raise ApiError(404, 0, "404: Not Found")
        if request.method == "PUT":
            self.commands = json.loads(request.read())
        return self.commands

    def _limit(self, route: str, headers: dict[str, str]) -> None:
        now = self._now().timestamp()
        calls = self._calls[route] = [at for at in self._calls[route] if at > now - SECONDS]
        if len(calls) >= CALLS:
            raise Limited(calls[0] + SECONDS - now + 0.25)
        calls.append(now)
        headers["x-ratelimit-remaining"] = str(CALLS - len(calls))
        headers["x-ratelimit-reset-after"] = f"{calls[0] + SECONDS - now:.3f}"

    # ── messages ─────────────────────────────────────────────────────────────

    def _interaction(self, request: httpx.Request, token: str, rest: list[str]) -> Any:
        found = next((each for each in self.interactions.values() if each.token == token), None)
        if found is None or token in self.unknown_tokens or not found.answered:
            raise ApiError(404, 10015, "Unknown Webhook")
        if self._now().timestamp() > found.at + TOKEN_FOR:
            raise ApiError(401, 50027, "Invalid Webhook Token")
        if request.method == "PATCH" and rest == ["messages", "@original"]:
            if found.answer is None:
                raise ApiError(404, 10008, "Unknown Message")
            self._write(found.answer, request, f"answer to {found.user}")
            return self._json(found.answer)
        if request.method == "POST" and not rest:
            sent = self._new(CHANNEL)
            self._write(sent, request, "follow-up")
            return self._json(sent)
        raise ApiError(405, 0, "405: Method Not Allowed")

    def _webhook(self, request: httpx.Request, token: str, rest: list[str]) -> Any:
        if self.webhook is None:
            raise ApiError(404, 10015, "Unknown Webhook")
        if token != WEBHOOK_TOKEN:
            raise ApiError(401, 50027, "Invalid Webhook Token")
        if request.method == "POST":
            sent = Sent(id=self._id(), text="")
            self._write(sent, request, "webhook")
            self.webhook[sent.id] = sent
            return self._json(sent) if request.url.params.get("wait") == "true" else None
        if rest[1] not in self.webhook:
            raise ApiError(404, 10008, "Unknown Message")
        self._write(self.webhook[rest[1]], request, "webhook edit")
        return self._json(self.webhook[rest[1]])

    def _channel(self, request: httpx.Request, channel: str, rest: list[str]) -> Any:
        if channel not in self.channels:
            raise ApiError(404, 10003, "Unknown Channel")
        if channel in self.closed:
            raise ApiError(403, 50001, "Missing Access")
        messages = self.channels[channel]
        if request.method == "POST":
            sent = self._new(channel)
            try:
                self._write(sent, request, "bot")
            except ApiError:
                del messages[sent.id]
                raise
            return self._json(sent)
        if rest[0] not in messages:
            raise ApiError(404, 10008, "Unknown Message")
        if request.method == "DELETE":
            del messages[rest[0]]
            self.log.append("delete")
            return None
        self._write(messages[rest[0]], request, "bot edit")
        return self._json(messages[rest[0]])

    def _write(self, sent: Sent, request: httpx.Request, line: str) -> None:
        body, file, name = _content(request)
        if len(body.get("content", "")) > MAX_TEXT:
            raise ApiError(400, 50035, "Invalid Form Body")
        if not body.get("content") and file is None:
            raise ApiError(400, 50006, "Cannot send an empty message")
        if file is not None and len(file) > self.size_limit:
            raise ApiError(413, 40005, "Request entity too large")
        sent.text, sent.mentions = body.get("content", ""), body.get("allowed_mentions", {})
        if file is not None:
            sent.file, sent.name = file, name
        self.log.append(f"{line}: {'[file] ' if file is not None else ''}{sent.text}")

    def _new(self, channel: str) -> Sent:
        sent = Sent(id=self._id(), text="")
        self.channels[channel][sent.id] = sent
        return sent

    def _json(self, sent: Sent) -> dict[str, Any]:
        return {"id": sent.id, "content": sent.text, "attachments": []}

    def _id(self, offset: float = 0.0) -> str:
        milliseconds = int((self._now().timestamp() + offset) * 1000) - EPOCH
        return str((milliseconds << 22) + next(self._numbers))

    # ── what people do ───────────────────────────────────────────────────────

    def command(
        self,
        prompt: str = "",
        *,
        pictures: tuple[bytes, ...] = (),
        channel: str = CHANNEL,
        server: str | None = SERVER,
        user: str = USER,
        name: str = "video",
        **more: Any,
    ) -> dict[str, Any]:
        """Return the interaction for a command."""
        number = self._id()
        token = f"aW50ZXJhY3Rpb24-{number}"
        self.interactions[number] = Interaction(token=token, at=self._now().timestamp(), user=user)
        attachments = {}
        options: list[dict[str, Any]] = [{"name": "prompt", "type": 3, "value": prompt}] if prompt else []
        for index, data in enumerate(pictures, 1):
            key = self._id()
            path = f"/attachments/{channel}/{key}/a.jpg"
            self.files[path] = data
            address = f"{self.files_at}{path}?ex=66&is=65&hm=stand-in"
            attachments[key] = {"id": key, "url": address, "size": len(data), "content_type": "image/jpeg"}
            options.append({"name": f"picture{index}", "type": 11, "value": key})
        self.log.append(f"user: /{name} {prompt}{' [picture]' * len(pictures)}".rstrip())
        person = {"member": {"user": {"id": user}}, "guild_id": server} if server else {"user": {"id": user}}
        resolved = {"resolved": {"attachments": attachments}} if attachments else {}
        return {
            "id": number,
            "application_id": APPLICATION,
            "type": 2,
            "token": token,
            "channel_id": channel,
            "attachment_size_limit": self.size_limit,
            "version": 1,
            "data": {"id": "1", "name": name, "type": 1, "options": options, **resolved},
            **person,
            **more,
        }

    def take_answer(self, interaction: dict[str, Any], answer: dict[str, Any]) -> None:
        """Take the bot's answer to an interaction, as Discord does once it has read the response."""
        found = self.interactions[interaction["id"]]
        found.answered = True
        data = answer.get("data", {})
        if answer["type"] == 4:
            self.log.append(f"answer, only for {found.user}: {data['content']}")
        elif answer["type"] == 5:
            found.answer = Sent(id=self._id(), text="") if data.get("flags") == 64 else self._new(CHANNEL)

    def signed(self, body: Any, *, age: float = 0.0) -> DiscordRequest:
        """Return a request with Discord's signature, made `age` seconds ago."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        at = str(int(self._now().timestamp() - age))
        signature = PRIVATE_KEY.sign(at.encode() + content).hex()
        headers = {"x-signature-ed25519": signature, "x-signature-timestamp": at, "content-type": "application/json"}
        return DiscordRequest(content=content, headers=headers)

    def seen(self, channel: str = CHANNEL) -> list[Sent]:
        """Return the messages that everybody in a channel sees now."""
        return [*self.channels[channel].values()]

    def texts(self, channel: str = CHANNEL) -> list[str]:
        """Return their texts."""
        return [f"[file] {sent.text}" if sent.file else sent.text for sent in self.seen(channel)]


def _content(request: httpx.Request) -> tuple[dict[str, Any], bytes | None, str]:
    """Return the fields of a message, and the bytes and the name of its file."""
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    data = request.read()
    if media_type == "application/json":
        return json.loads(data), None, ""
    _, form, files = FormDataParser(max_form_memory_size=None).parse(BytesIO(data), media_type, len(data), options)
    body = json.loads(form["payload_json"])
    [(name, upload)] = files.items()
    [attachment] = body["attachments"]
    if name != f"files[{attachment['id']}]" or upload.filename != attachment["filename"]:
        raise ApiError(400, 50035, "Invalid Form Body")
    with upload.stream:
        return body, upload.stream.read(), str(upload.filename)
