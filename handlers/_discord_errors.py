"""The errors of Discord's API: what they are, and what they mean for a delivery."""

import json
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx

from service import Reject

from ._chat_http import bounded_body
from ._chat_media import TooLarge
from ._chat_progress import MessageGone

UNKNOWN_MESSAGE = 10008
TOO_OLD = 30046
"""A message older than an hour was edited too often."""

FORM_ERRORS = frozenset({50035, 50006})
TOO_LARGE = 40005
MAX_PAUSE = 3600.0
DEFAULT_PAUSE = 5.0
"""Seconds for which Discord may ask at most, and what is waited if it names none."""

TOKEN_REFUSED = "Discord does not accept BOOMERANG_DISCORD_TOKEN; set the token that the page Bot shows"  # noqa: S105
WEBHOOK_GONE = "the webhook does not exist any more; make a new one and give its address"


class TokenDead(Exception):
    """The token of an interaction or of a webhook is not valid any more."""


class Closed(Reject):
    """The bot may not write to a channel, or there is none."""


@dataclass(frozen=True)
class ApiError(Exception):
    """An answer of 4xx: its status, and the code and message of Discord."""

    status: int
    code: int
    message: str


def digest(secret: str) -> str:
    """Return a short name of a secret for keys of the state."""
    return sha256(secret.encode()).hexdigest()[:24]


def host_of(url: str) -> str:
    """Return the scheme, host and port of an address, empty for one that cannot be read."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}".lower() if parts.port is None or parts.port else ""
    except ValueError:
        return ""


def is_missing(error: ApiError) -> bool:
    """Return whether Discord does not know what an address names."""
    return error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


def mapped(error: ApiError) -> Exception:
    """Return the exception for an answer that is no matter of a token."""
    reason = f"Discord answered {error.status}, code {error.code}"
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or error.code == TOO_LARGE:
        return TooLarge(None)
    if error.code in {UNKNOWN_MESSAGE, TOO_OLD}:
        return MessageGone(reason)
    if error.status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return Closed(f"{reason}: the bot needs View Channel, Send Messages and Attach Files in the channel")
    return Reject(f"{reason}: {error.message}" if error.code in FORM_ERRORS else reason)


def pause_of(response: httpx.Response, data: Any, *, refused: bool) -> float:
    """Return the seconds that Discord asks for: a number with a fraction, in the body or in a header."""
    given = data.get("retry_after") if refused and isinstance(data, dict) else None
    names = ("retry-after",) if refused else ("x-ratelimit-reset-after",)
    for value in (given, *(response.headers.get(name) for name in names)):
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return min(seconds, MAX_PAUSE)
    return DEFAULT_PAUSE if refused else 0.0


async def bounded_json(response: httpx.Response) -> Any:
    """Return the body as JSON, None for anything else. Raises httpx.DecodingError for one that is too large."""
    body = await bounded_body(response)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
