"""A stand-in for the Web API of Slack: its methods, limits, error words and requests, after its public documentation.

Sources: docs.slack.dev for methods, events, signatures, incoming webhooks and rate limits. It answers `httpx` requests
in memory.
"""

import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx

TOKEN = "xoxb-1-stand-in-token-of-the-bot"
SIGNING_SECRET = "5163d2cd31a1fd3a5163d2cd31a1fd3a"
TEAM, BOT, USER, OUTSIDER = "T0001", "U0BOT", "U0ADA", "U0EVE"
CHANNEL, FOREIGN = "C0001", "C0002"
WEBHOOK = "https://hooks.slack.com/services/T0001/B0001/stand-in"

SCOPES = frozenset({"commands", "app_mentions:read", "chat:write", "files:read", "files:write", "im:history"})
NEEDED = {"chat": "chat:write", "files.info": "files:read", "files": "files:write"}
MAX_UPDATE_TEXT = 4000
UPDATES_A_MINUTE = 50
HALF_HOUR = 1800.0
ANSWERS = 5


@dataclass(frozen=True)
class SlackError(Exception):
    """An error of a method, which comes with the status 200."""

    word: str


@dataclass(frozen=True)
class Limited(Exception):
    """A method was called too often."""

    seconds: int


@dataclass(kw_only=True)
class Sent:
    """A message that is seen in a channel; `only_for` is the user who alone sees it."""

    ts: str
    text: str
    by_bot: bool = True
    thread: str | None = None
    only_for: str = ""
    file: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Conversation:
    """A channel: whether the bot is a member, whether it is archived, and its messages."""

    member: bool = True
    archived: bool = False
    messages: dict[str, Sent] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the bot."""

    method: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SlackRequest:
    """A request of Slack to the bot."""

    content: bytes
    headers: dict[str, str]


class SlackApi:
    """The API for one bot. `faults` are errors that the next calls of a method get, `log` is the transcript."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._numbers = count(100)
        self.channels = {CHANNEL: Conversation(), FOREIGN: Conversation(member=False)}
        self.files: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, int]] = {}
        self.uploaded: dict[str, bytes] = {}
        self.faults: defaultdict[str, list[Exception]] = defaultdict(list)
        self.calls: list[Call] = []
        self.log: list[str] = []
        self.scopes = set(SCOPES)
        self.messages_tab = True
        self.upload_words: list[str] = []
        self.upload_faults: list[httpx.Response] = []
        self.shares = True
        self.webhook = httpx.Response(200, text="ok")
        self.posted: list[dict[str, Any]] = []
        self.response_urls: dict[str, list[float]] = {}
        self._updates: list[float] = []

    # ── the server ───────────────────────────────────────────────────────────

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer a request to the API, to the server of files, or to a webhook."""
        path = request.url.path
        if path.startswith("/services/"):
            return self._incoming_webhook(request)
        if path.startswith("/commands/"):
            return self._response_url(request)
        if path.startswith("/upload/"):
            return self._upload(request)
        if path.startswith("/files-pri/"):
            return self._download(request)
        try:
            answer = {"ok": True, **self._answer(path.removeprefix("/api/"), request)}
        except SlackError as error:
            answer = {"ok": False, "error": error.word}
        except Limited as error:
            headers = {"retry-after": str(error.seconds)}
            return httpx.Response(429, json={"ok": False, "error": "ratelimited"}, headers=headers)
        return httpx.Response(200, json=answer)

    def _answer(self, method: str, request: httpx.Request) -> dict[str, Any]:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise SlackError("invalid_auth")
        arguments = _arguments(request)
        self.calls.append(Call(method=method, arguments=arguments))
        if self.faults[method]:
            raise self.faults[method].pop(0)
        scope = NEEDED.get(method) or NEEDED.get(method.partition(".")[0])
        if scope and scope not in self.scopes:
            raise SlackError("missing_scope")
        answer = getattr(self, f"_{method.replace('.', '_')}", None)
        if answer is None:
            raise SlackError("unknown_method")
        found: dict[str, Any] = answer(arguments, request)
        return found

    def called(self, method: str) -> list[Call]:
        """Return all calls of a method."""
        return [call for call in self.calls if call.method == method]

    # ── methods ──────────────────────────────────────────────────────────────

    def _auth_test(self, _: dict[str, Any], __: httpx.Request) -> dict[str, Any]:
        return {"url": "https://stand-in.slack.com/", "team_id": TEAM, "user_id": BOT, "user": "video"}

    def _chat_postMessage(self, arguments: dict[str, Any], _: httpx.Request) -> dict[str, Any]:  # noqa: N802 - Slack's
        channel, conversation = self._writable(str(arguments.get("channel")))
        if not arguments.get("text"):
            raise SlackError("no_text")
        sent = self._add(conversation, arguments["text"], thread=arguments.get("thread_ts"))
        self.log.append(f"bot: {sent.text}")
        return {"channel": channel, "ts": sent.ts, "message": {"text": sent.text}}

    def _chat_postEphemeral(self, arguments: dict[str, Any], _: httpx.Request) -> dict[str, Any]:  # noqa: N802 - same
        conversation = self._writable(str(arguments.get("channel")))[1]
        sent = self._add(conversation, arguments["text"], thread=arguments.get("thread_ts"))
        sent.only_for = arguments["user"]
        self.log.append(f"bot, only for {sent.only_for}: {sent.text}")
        return {"message_ts": sent.ts}

    def _chat_update(self, arguments: dict[str, Any], _: httpx.Request) -> dict[str, Any]:
        now = self._now().timestamp()
        self._updates = [at for at in self._updates if at > now - 60]
        if len(self._updates) >= UPDATES_A_MINUTE:
            raise Limited(int(self._updates[0] + 60 - now) + 1)
        self._updates.append(now)
        sent = self._own_message(arguments)
        if len(arguments["text"]) > MAX_UPDATE_TEXT:
            raise SlackError("msg_too_long")
        sent.text = arguments["text"]
        self.log.append(f"edit: {sent.text}")
        return {"channel": arguments["channel"], "ts": sent.ts, "text": sent.text}

    def _chat_delete(self, arguments: dict[str, Any], _: httpx.Request) -> dict[str, Any]:
        sent = self._own_message(arguments)
        del self.channels[str(arguments["channel"])].messages[sent.ts]
        self.log.append("delete")
        return {"channel": arguments["channel"], "ts": sent.ts}

    def _files_getUploadURLExternal(self, arguments: dict[str, Any], request: httpx.Request) -> dict[str, Any]:  # noqa: N802
        length = int(arguments["length"])
        if length <= 0:
            raise SlackError("invalid_arguments")
        if self.upload_words:
            raise SlackError(self.upload_words.pop(0))
        file_id = f"F{next(self._numbers)}UP"
        self.uploads[file_id] = (arguments["filename"], length)
        return {"upload_url": f"{_files_of(request)}/upload/v1/{file_id}", "file_id": file_id}

    def _files_completeUploadExternal(self, arguments: dict[str, Any], _: httpx.Request) -> dict[str, Any]:  # noqa: N802
        [given] = json.loads(arguments["files"])
        if given["id"] not in self.uploaded:
            raise SlackError("file_not_found")
        channel = arguments.get("channel_id")
        conversation = self._writable(str(channel))[1]
        file = {"id": given["id"], "title": given.get("title"), "user": BOT, "channels": [], "groups": [], "ims": []}
        if self.shares:
            file["ims" if str(channel).startswith("D") else "channels"].append(channel)
            sent = self._add(conversation, arguments.get("initial_comment", ""), thread=arguments.get("thread_ts"))
            sent.file = given["id"]
            sent.details = {"bytes": len(self.uploaded[sent.file]), "name": self.uploads[sent.file][0]}
            self.log.append(f"bot: [file] {sent.text}")
        self.files[given["id"]] = file
        return {"files": [{"id": given["id"], "title": given.get("title"), "channels": []}]}  # shared after the answer

    def _files_info(self, arguments: dict[str, Any], request: httpx.Request) -> dict[str, Any]:
        found = self.files.get(str(arguments["file"]))
        if found is None:
            raise SlackError("file_not_found")
        own = f"{_files_of(request)}/files-pri/{TEAM}-{found['id']}/download/a.jpg"
        return {"file": {"url_private_download": own, "url_private": own, **found}}

    # ── rules ────────────────────────────────────────────────────────────────

    def _writable(self, channel: str) -> tuple[str, Conversation]:
        """Return a channel; a user's id opens the direct messages with the bot."""
        if channel[:1] in {"U", "W"}:
            if not self.messages_tab:
                raise SlackError("messages_tab_disabled")
            channel = f"D{channel[1:]}"
            self.channels.setdefault(channel, Conversation())
        if channel not in self.channels:
            raise SlackError("channel_not_found")
        found = self.channels[channel]
        if not found.member:
            raise SlackError("not_in_channel")
        if found.archived:
            raise SlackError("is_archived")
        return channel, found

    def _own_message(self, arguments: dict[str, Any]) -> Sent:
        channel, conversation = self._writable(str(arguments["channel"]))
        if channel != arguments["channel"]:
            raise SlackError("channel_not_found")
        sent = conversation.messages.get(str(arguments["ts"]))
        if sent is None or sent.only_for:
            raise SlackError("message_not_found")
        if not sent.by_bot:
            raise SlackError("cant_update_message")
        return sent

    def _add(self, conversation: Conversation, text: str, *, by_bot: bool = True, thread: str | None = None) -> Sent:
        sent = Sent(ts=f"{int(self._now().timestamp())}.{next(self._numbers):06}", text=text, by_bot=by_bot)
        sent.thread = thread
        conversation.messages[sent.ts] = sent
        return sent

    # ── files and webhooks ───────────────────────────────────────────────────

    def _upload(self, request: httpx.Request) -> httpx.Response:
        """Take the bytes of a file: exactly as many as were announced, once."""
        file_id = request.url.path.rpartition("/")[2]
        body = request.read()
        if self.upload_faults:
            return self.upload_faults.pop(0)
        if file_id not in self.uploads or file_id in self.uploaded or len(body) != self.uploads[file_id][1]:
            return httpx.Response(400, text="invalid upload")
        self.uploaded[file_id] = body
        return httpx.Response(200, text=f"OK - {len(body)}")

    def _download(self, request: httpx.Request) -> httpx.Response:
        """Answer with a file; without the token or the scope with the page for signing in, as Slack does."""
        file_id = request.url.path.split("/")[2].partition("-")[2]
        if request.headers.get("authorization") != f"Bearer {TOKEN}" or "files:read" not in self.scopes:
            return httpx.Response(200, html="<!DOCTYPE html><title>Sign in</title>")
        data = self.data.get(file_id)
        return httpx.Response(404) if data is None else httpx.Response(200, content=data)

    def _incoming_webhook(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.read())
        if not body.get("text"):
            return httpx.Response(400, text="no_text")
        if self.webhook.is_success:
            self.posted.append(body)
            self.log.append(f"webhook: {body['text']}")
        return self.webhook

    def _response_url(self, request: httpx.Request) -> httpx.Response:
        """Take an answer to a command: five within half an hour."""
        used = self.response_urls.get(request.url.path)
        if used is None or self._now().timestamp() > used[0] + HALF_HOUR:
            return httpx.Response(404, json={"ok": False, "error": "expired_url"})
        if len(used) > ANSWERS:
            return httpx.Response(404, json={"ok": False, "error": "used_url"})
        used.append(self._now().timestamp())
        self.log.append(f"response: {json.loads(request.read())['text']}")
        return httpx.Response(200, json={"ok": True})

    # ── what people do ───────────────────────────────────────────────────────

    def command(self, text: str, *, channel: str = CHANNEL, user: str = USER, trigger: str = "") -> SlackRequest:
        """Return the request for `/video text`."""
        number = next(self._numbers)
        path = f"/commands/{TEAM}/{number}/stand-in"
        self.response_urls[path] = [self._now().timestamp()]
        fields = {
            "team_id": TEAM,
            "channel_id": channel,
            "user_id": user,
            "command": "/video",
            "text": text,
            "response_url": f"https://hooks.slack.com{path}",
            "trigger_id": trigger or f"{number}.1.stand-in",
            "api_app_id": "A0001",
        }
        self.log.append(f"user: /video {text}".rstrip())
        return self.signed(urlencode(fields).encode(), "application/x-www-form-urlencoded")

    def message(
        self,
        text: str,
        *,
        pictures: tuple[bytes, ...] = (),
        channel: str = CHANNEL,
        user: str = USER,
        kind: str = "app_mention",
        thread: str | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Return the event for a message; `kind` is `app_mention`, `message` or, in a direct message, `im`."""
        conversation = self.channels.setdefault(channel, Conversation())
        sent = self._add(conversation, text, by_bot=False, thread=thread)
        files = [self.share(each, user=user, channel=channel) for each in pictures]
        self.log.append(f"user: {'[picture] ' * len(files)}{text}")
        event: dict[str, Any] = {
            "type": "message" if kind == "im" else kind,
            "user": user,
            "text": text,
            "ts": sent.ts,
            "channel": channel,
            "team": TEAM,
            **({"channel_type": "im"} if kind == "im" else {}),
            **({"thread_ts": thread} if thread else {}),
            **({"files": [{"id": each, "file_access": "check_file_info"} for each in files]} if files else {}),
            **more,
        }
        return self.event(event)

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event with the next id."""
        return {
            "type": "event_callback",
            "team_id": TEAM,
            "event_id": f"Ev{next(self._numbers)}",
            "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True}],
            "event": event,
        }

    def share(self, data: bytes, *, user: str = USER, channel: str = CHANNEL, **more: Any) -> str:
        """Add a file that a person shared in a channel; return its id."""
        file_id = f"F{next(self._numbers)}PIC"
        self.data[file_id] = data
        place = "ims" if channel.startswith("D") else "channels"
        self.files[file_id] = {"id": file_id, "user": user, "size": len(data), place: [channel], **more}
        return file_id

    def signed(self, content: bytes, media_type: str = "application/json", *, age: float = 0.0) -> SlackRequest:
        """Return a request with Slack's signature, made `age` seconds ago."""
        at = str(int(self._now().timestamp() - age))
        digest = hmac.new(SIGNING_SECRET.encode(), f"v0:{at}:".encode() + content, hashlib.sha256).hexdigest()
        headers = {"x-slack-request-timestamp": at, "x-slack-signature": f"v0={digest}", "content-type": media_type}
        return SlackRequest(content=content, headers=headers)

    def signed_event(self, event: dict[str, Any]) -> SlackRequest:
        """Return the request for an event."""
        return self.signed(json.dumps(event).encode())

    def seen(self, channel: str = CHANNEL) -> list[Sent]:
        """Return the messages of the bot that everybody in a channel sees now."""
        found = self.channels.get(channel, Conversation()).messages.values()
        return [sent for sent in found if sent.by_bot and not sent.only_for]

    def texts(self, channel: str = CHANNEL) -> list[str]:
        """Return their texts."""
        return [f"[file] {sent.text}" if sent.file else sent.text for sent in self.seen(channel)]


def _arguments(request: httpx.Request) -> dict[str, Any]:
    """Return the arguments of a call, from its query, its form or its JSON."""
    found: dict[str, Any] = dict(request.url.params)
    body = request.read()
    if "json" in request.headers.get("content-type", ""):
        found |= {name: value for name, value in json.loads(body).items() if value is not None}
    elif body:
        found |= dict(parse_qsl(body.decode()))
    return found


def _files_of(request: httpx.Request) -> str:
    """Return where files are: on a host of their own, or at the same port as the API."""
    if request.url.host == "slack.com":
        return "https://files.slack.com"
    return f"{request.url.scheme}://{request.url.netloc.decode()}"
