"""Verifies what Slack sends, and reads it into the few facts that the bot acts on."""

import html
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict

from ._slack_api import import_slack
from ._slack_settings import SlackTools

ACTIONS = frozenset({"help", "status", "cancel"})
IDENTIFIER = re.compile(r"[A-Z0-9]{1,40}")
LINK = re.compile(r"<(?P<address>https?://[^\s<>|]+)(?:\|[^<>]*)?>")
ADDRESS = re.compile(r"https?://[^\s<>|]+")
MENTION = re.compile(r"<@[A-Z0-9]+(?:\|[^<>]*)?>")
MAX_ADDRESSES = 8
MAX_FILES = 10
CHANGED = frozenset({None, "", "file_share", "thread_broadcast"})
"""Subtypes of messages that people write; others report changes."""


class Incoming(BaseModel):
    """A command to the bot.

    `source` is unique for it. `text` is its prompt, `addresses` are the links in it, `files` the ids of the files that
    were shared with it. `private` is a direct message to the bot, `thread` where answers to a message go.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    workspace: str
    channel: str
    user: str
    action: str
    text: str = ""
    addresses: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    thread: str | None = None
    private: bool = False
    response_url: str = ""


async def is_from_slack(headers: Mapping[str, str], body: bytes, tools: SlackTools) -> bool:
    """Return whether Slack signed a request with our secret, within five minutes. Raises Retry without the library."""
    if not tools.config.signing_secret:
        return False
    await import_slack()
    from slack_sdk.signature import SignatureVerifier  # noqa: PLC0415 - heavy

    from ._slack_requests import FixedClock  # noqa: PLC0415 - heavy

    verifier = SignatureVerifier(tools.config.signing_secret, FixedClock(tools.now().timestamp()))
    given = {name: headers.get(name, "") for name in ("x-slack-request-timestamp", "x-slack-signature")}
    if not all(given.values()):
        return False
    try:
        return verifier.is_valid_request(body, given)
    except (ValueError, TypeError, OverflowError):  # a time that is no number, a signature that is not ASCII
        return False


def read_command(body: bytes) -> Incoming | None:
    """Return the slash command of a form, None for a check of the certificate. Raises ValueError."""
    fields = {name: values[-1] for name, values in parse_qs(body.decode(), max_num_fields=100).items()}
    if fields.get("ssl_check") == "1":
        return None
    trigger = sha256(fields.get("trigger_id", "").encode()).hexdigest()[:32]
    if not fields.get("trigger_id"):
        raise ValueError("a command without trigger_id")
    channel = _identifier(fields.get("channel_id"))
    action, text, addresses = _parts(fields.get("text", ""))
    return Incoming(
        source=f"command/{trigger}",
        workspace=_identifier(fields.get("team_id")),
        channel=channel,
        user=_identifier(fields.get("user_id")),
        action=action,
        text=text,
        addresses=addresses,
        private=False,
        response_url=fields.get("response_url", ""),
    )


def read_event(body: Mapping[str, Any]) -> Incoming | None:
    """Return the message of an event that concerns the bot, None for all others. Raises ValueError."""
    event = body.get("event")
    if not isinstance(event, dict):
        return None
    bots = {str(each.get("user_id")) for each in body.get("authorizations") or [] if isinstance(each, dict)}
    text = str(event.get("text") or "")
    if not _is_for_bot(event, text, bots):
        return None
    channel, number = _identifier(event.get("channel")), str(event.get("ts") or "")
    if not re.fullmatch(r"[0-9]{1,16}\.[0-9]{1,9}", number):
        raise ValueError("a message without its time")
    files = [each for each in event.get("files") or [] if isinstance(each, dict)]
    private = event.get("channel_type") == "im"
    action, prompt, addresses = _parts(MENTION.sub(" ", text))
    return Incoming(
        source=f"message/{channel}/{number}",
        workspace=_identifier(event.get("team") or event.get("user_team") or body.get("team_id")),
        channel=channel,
        user=_identifier(event.get("user")),
        action=action,
        text=prompt,
        addresses=addresses,
        files=tuple(_identifier(each.get("id")) for each in files[:MAX_FILES]),
        thread=str(event.get("thread_ts") or number),
        private=private,
    )


def _is_for_bot(event: Mapping[str, Any], text: str, bots: set[str]) -> bool:
    """Return whether a person wrote to the bot: in a direct message, or with a mention of it.

    A message with a file may come as `message` only, although it mentions the bot.
    """
    if event.get("bot_id") or event.get("subtype") not in CHANGED or str(event.get("user")) in bots:
        return False
    if event.get("type") == "app_mention" or event.get("channel_type") == "im":
        return True
    mentioned = any(f"<@{bot}>" in text or f"<@{bot}|" in text for bot in bots)
    return event.get("type") == "message" and bool(event.get("files")) and mentioned


def _identifier(value: object) -> str:
    """Return an id; raises ValueError for anything else: ids are parts of keys."""
    if not (isinstance(value, str) and IDENTIFIER.fullmatch(value)):
        raise ValueError("an id is missing or malformed")
    return value


def _parts(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the action of a text, its prompt, and the addresses in it."""
    plain = LINK.sub(lambda found: f" {found['address']} ", text)
    addresses = tuple(html.unescape(each) for each in ADDRESS.findall(plain)[:MAX_ADDRESSES])
    prompt = " ".join(html.unescape(ADDRESS.sub(" ", plain)).split()).removeprefix("/video").strip()
    word = prompt.lower()
    if word in ACTIONS:
        return word, "", ()
    return ("video" if prompt else "help"), prompt, addresses


def read_json(body: bytes) -> dict[str, Any]:
    """Return the object of a body in JSON, empty for anything else; raises ValueError."""
    found = json.loads(body)
    return found if isinstance(found, dict) else {}
