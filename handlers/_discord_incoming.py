"""Verifies the interactions of Discord, and reads them into the few facts that the bot acts on."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from ._discord_settings import DEFAULT_LIMIT

PING, COMMAND = 1, 2
IDENTIFIER = re.compile(r"[0-9]{1,20}")
MAX_AGE = 300.0
"""Seconds for which a signed request is accepted, so that a recorded one cannot be sent again."""

EPOCH = 1_420_070_400_000
"""Milliseconds of 2015, from which the ids of Discord count."""

ACTIONS = {"video": "video", "video-status": "status", "video-cancel": "cancel"}


class Attachment(BaseModel):
    """A file of a command: its address, which expires, and its size in bytes."""

    model_config = ConfigDict(frozen=True)

    url: str
    size: int = 0


class Incoming(BaseModel):
    """A command: its id and token, where and by whom it was given, and what it contains."""

    model_config = ConfigDict(frozen=True)

    id: str
    token: str
    server: str
    channel: str
    user: str
    action: str
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    limit: int = DEFAULT_LIMIT

    @property
    def made_at(self) -> datetime:
        """Return when the command was given, which its id says."""
        return datetime.fromtimestamp(((int(self.id) >> 22) + EPOCH) / 1000, UTC)


def is_from_discord(headers: Mapping[str, str], body: bytes, public_key: str, now: datetime) -> bool:
    """Return whether Discord signed a request for the application with this key, within five minutes."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - a process without a port needs none
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - the same

    signature, timestamp = headers.get("x-signature-ed25519", ""), headers.get("x-signature-timestamp", "")
    if not re.fullmatch(r"[0-9a-fA-F]{128}", signature) or not re.fullmatch(r"[0-9]{1,16}", timestamp):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), timestamp.encode() + body)
    except (InvalidSignature, ValueError):
        return False
    return abs(now.timestamp() - int(timestamp)) <= MAX_AGE


def read_interaction(body: Mapping[str, Any]) -> Incoming | None:
    """Return a command of this bot, None for any other interaction. Raises ValueError, TypeError, LookupError."""
    data = body["data"]
    action = ACTIONS.get(str(data.get("name")))
    if body.get("type") != COMMAND or data.get("type", 1) != 1 or action is None:
        return None
    person = (body.get("member") or {}).get("user") or body["user"]
    options = {str(each["name"]): each.get("value") for each in data.get("options") or []}
    resolved = (data.get("resolved") or {}).get("attachments") or {}
    names = sorted(name for name in options if name.startswith("picture"))
    limit = body.get("attachment_size_limit")
    token = str(body["token"])
    if not re.fullmatch(r"[\w.=-]{1,1000}", token):
        raise ValueError("the token is malformed")
    return Incoming(
        id=_identifier(body["id"]),
        token=token,
        server=_identifier(body["guild_id"]) if body.get("guild_id") else "",
        channel=_identifier(body["channel_id"]),
        user=_identifier(person["id"]),
        action=action,
        text=str(options.get("prompt") or "").strip(),
        attachments=tuple(Attachment.model_validate(resolved[str(options[name])]) for name in names),
        limit=limit if isinstance(limit, int) and limit > 0 else DEFAULT_LIMIT,
    )


def _identifier(value: object) -> str:
    """Return an id; raises ValueError for anything else: ids are parts of keys and addresses."""
    if not (isinstance(value, str) and IDENTIFIER.fullmatch(value)):
        raise ValueError("an id is missing or malformed")
    return value
