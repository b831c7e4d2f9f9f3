"""Reads single values out of a provider's JSON. Invalid values become None or "", or raise ProviderUnavailable."""

import re
from decimal import Decimal, InvalidOperation
from urllib.parse import urlsplit

from service.domain.errors import ProviderUnavailable, UnreadableBody
from service.domain.strict_json import parse_json
from service.domain.task import Json, UpstreamId

MAX_TEXT = 2000
MAX_URL = 8192
MAX_CORRELATION = 1024
MAX_TOKEN = 256
MAX_NUMBER = 10**18

TEXTUAL = (str, int)
NUMERIC = (str, int, float)
"""Types of number-like values. A tuple, because `isinstance` with a union builds the union in each call."""

UPSTREAM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
"""Valid ids of a provider: safe as one segment of a path."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,100}~[0-9]{1,9}(~[0-9]{1,11})?\.[A-Za-z0-9_-]{20,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_PLAIN_MONEY = re.compile(r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")
_HTTP = re.compile(r"https?://[^\s\x00-\x20]+", re.IGNORECASE)
_PLAIN_HTTP = re.compile(r"https?://[A-Za-z0-9.-]+(/[!-~]*)?")


def clean(value: object, limit: int = MAX_TEXT) -> str:
    """Return a text or integer as one line of at most `limit` characters; "" for any other type.

    Control characters become blanks, and correlation tokens become `[token]`, because clients and logs show the text.
    """
    if isinstance(value, bool) or not isinstance(value, TEXTUAL):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < MAX_NUMBER else ""
    if len(value) <= limit and value.isascii() and value.isprintable() and "~" not in value:
        return value.strip()
    return _TOKEN.sub("[token]", _CONTROL.sub(" ", value[: limit * 2 + MAX_TOKEN])).strip()[:limit]


def number(value: object) -> int | float | None:
    """Return a finite number from a number or a text; None for anything else, including booleans."""
    if isinstance(value, bool) or not isinstance(value, NUMERIC):
        return None
    if isinstance(value, int) and abs(value) < MAX_NUMBER:
        return value
    exact = _decimal(value)
    if exact is None:
        return None
    return int(exact) if exact == exact.to_integral_value() and "." not in str(value) else float(exact)


def money(value: object) -> str | None:
    """Return an amount as plain decimal digits, from a number or a text; None if it is negative or invalid."""
    if isinstance(value, bool) or not isinstance(value, NUMERIC):
        return None
    if isinstance(value, str) and _PLAIN_MONEY.fullmatch(value):
        return value
    exact = _decimal(value)
    return None if exact is None or exact < 0 else format(exact, "f")


def amount(value: object) -> float | None:
    """Return a number that is not negative, from a number or a text; None for anything else."""
    parsed = number(value)
    return None if parsed is None or parsed < 0 else float(parsed)


def is_faulty_amount(value: object) -> bool:
    """Return whether `value` is given and is not an amount: negative, not finite, or no number."""
    return value is not None and value != "" and money(value) is None


def _decimal(value: str | float) -> Decimal | None:
    text = str(value)[:64] if not isinstance(value, int) or abs(value) < MAX_NUMBER else ""
    try:
        exact = Decimal(text.strip())
    except InvalidOperation:
        return None
    return exact if exact.is_finite() and abs(exact.adjusted()) <= 18 else None  # noqa: PLR2004 - beyond any real amount


def fraction(value: object) -> float | None:
    """Return a number clamped to 0 to 1; None for a text and for anything that is not a finite number."""
    if isinstance(value, str):
        return None
    parsed = number(value)
    return None if parsed is None else min(1.0, max(0.0, float(parsed)))


def upstream_id(value: object) -> UpstreamId | None:
    """Return an id that is safe in a path, None for a missing one; raises ProviderUnavailable for an invalid one."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not UPSTREAM_ID.fullmatch(value):
        raise ProviderUnavailable("the provider's response has an invalid task id")
    return UpstreamId(value)


def http_url(value: object) -> str | None:
    """Return an unchanged http or https address of at most 8,192 characters; None for anything else."""
    if not isinstance(value, str) or len(value) > MAX_URL:
        return None
    if _PLAIN_HTTP.fullmatch(value):
        return value
    if _CONTROL.search(value):
        return None
    try:
        return value if _HTTP.fullmatch(value) and urlsplit(value).hostname else None
    except ValueError:
        return None


def correlation(body: Json) -> str | None:
    """Return the body's `payload` if it can be a correlation token: a text of 1 to 1,024 characters. Otherwise None."""
    payload = body.get("payload")
    return payload if isinstance(payload, str) and 0 < len(payload) <= MAX_CORRELATION else None


def json_object(value: object) -> Json:
    """Return `value` if it is a JSON object; raises ProviderUnavailable otherwise."""
    if not isinstance(value, dict):
        raise ProviderUnavailable("the provider's response is not a JSON object")
    return value


def error_object(body: object) -> Json | str:
    """Return the JSON object of an error response, or a short line of text for any other body; parses bytes."""
    if isinstance(body, bytes):
        try:
            return error_object(parse_json(body))
        except UnreadableBody:
            return plain_text(body[:4096].decode("utf-8", "replace"))
    if isinstance(body, dict):
        return body
    return plain_text(body) if isinstance(body, str) else ""


def plain_text(text: str) -> str:
    """Return the visible text of HTML or plain text, as one line of at most 200 characters."""
    visible = re.sub(r"(?is)<(script|style)\b.*?(</\1\s*>|$)|<[^>]*(>|$)", " ", text[:4096])
    return clean(" ".join(visible.split()), 200)
