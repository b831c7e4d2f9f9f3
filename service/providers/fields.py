"""Reads single values out of a provider's JSON. Invalid values become None or "", or raise ProviderUnavailable."""

import html
import json
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from urllib.parse import quote, quote_plus, urljoin, urlsplit

from service.domain.errors import UnreadableBody
from service.domain.lenient_json import IncompleteJson, parse_lenient
from service.domain.task import Json

MAX_TEXT = 2000
MAX_URL = 8192
MAX_CORRELATION = 1024
MAX_TOKEN = 256
MAX_NUMBER = 10**18
MAX_PAGE = 4096
"""Characters of a page that are read for its text."""
MIN_MASKED_KEY = 16
"""Length in characters from which the provider's key is masked."""

TEXTUAL = (str, int)
NUMERIC = (str, int, float)
"""Types of number-like values. A tuple, because `isinstance` with a union builds the union in each call."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,100}~[0-9]{1,9}(~[0-9]{1,11})?\.[A-Za-z0-9_-]{20,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_PLAIN_MONEY = re.compile(r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")
_HTTP = re.compile(r"https?://[^\s\x00-\x20]+", re.IGNORECASE)
_RELATIVE = re.compile(r"(?:/|[^\s:/?#]+/)\S*|[^\s:/?#]+\.(?:mp4|mov|webm|gif|png|jpe?g|webp)(?:\?\S*)?", re.IGNORECASE)
_PLAIN_HTTP = re.compile(r"https?://[A-Za-z0-9.-]+(/[!-~]*)?")


def clean(value: object, limit: int = MAX_TEXT, key: str = "") -> str:
    """Return a text or integer as one line of at most `limit` characters; "" for any other type.

    Control characters become blanks, correlation tokens `[token]`, and the provider's `key` of at least 16 characters
    `[key]`, because clients and logs show the text. A shorter key would be found in ordinary words.
    """
    if isinstance(value, bool) or not isinstance(value, TEXTUAL):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < MAX_NUMBER else ""
    text = masked(value, key) if key else value
    if len(text) <= limit and text.isascii() and text.isprintable() and "~" not in text:
        return text.strip()
    text = text[: limit * 2 + MAX_TOKEN]
    return _TOKEN.sub("[token]", _CONTROL.sub(" ", text)).strip()[:limit]


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


def fraction(value: object, *, percent: bool = False) -> float | None:
    """Return a progress as a number from 0 to 1; None for anything that is not a finite number.

    0.45, "0.45", 45, "45" and "45%" mean the same: a number above 1 is a percentage. With `percent` each number is.
    """
    if isinstance(value, str) and value.strip().endswith(("%", "\uff05")):
        value, percent = value.strip()[:-1], True
    parsed = number(value)
    if parsed is None:
        return None
    return min(1.0, max(0.0, parsed / 100 if percent or parsed > 1 else float(parsed)))


def http_url(value: object, base_url: str = "") -> str | None:
    """Return an http or https address of at most 8,192 characters; None for anything else.

    Blanks around it are removed, those inside are percent-encoded. A relative address begins at `base_url`, if there is
    one.
    """
    if not isinstance(value, str) or len(value) > MAX_URL:
        return None
    if _PLAIN_HTTP.fullmatch(value):
        return value
    address = value.strip().replace(" ", "%20")
    if _CONTROL.search(address):
        return None
    try:
        if base_url and _RELATIVE.fullmatch(address):
            address = urljoin(f"{base_url}/", address)
        return address if _HTTP.fullmatch(address) and urlsplit(address).hostname else None
    except ValueError:
        return None


def correlation(payload: object) -> str | None:
    """Return a `payload` if it can be a correlation token: a text of 1 to 1,024 characters. Otherwise None."""
    return payload if isinstance(payload, str) and 0 < len(payload) <= MAX_CORRELATION else None


def error_object(body: object, key: str = "") -> Json | str:
    """Return the JSON object of an error response, or a short line of text for any other body; parses bytes.

    The line does not show the provider's `key`; the texts in an object are unchanged.
    """
    if isinstance(body, bytes):
        try:
            return error_object(parse_lenient(body), key)
        except IncompleteJson as error:
            return error.value
        except UnreadableBody:
            return plain_text(body[: MAX_PAGE + max_length(key)].decode("utf-8", "replace"), key)
    if isinstance(body, dict):
        return body
    return plain_text(body, key) if isinstance(body, str) else ""


def plain_text(text: str, key: str = "") -> str:
    """Return the visible text of HTML or plain text, as one line of at most 200 characters, without `key`."""
    text = masked(text[: MAX_PAGE + max_length(key)], key)[:MAX_PAGE]
    visible = re.sub(r"(?is)<(script|style)\b.*?(</\1\s*>|$)|<[^>]*(>|$)", " ", text)
    return clean(" ".join(visible.split()), 200)


def masked(text: str, key: str) -> str:
    """Return the text with `[key]` in place of a key of at least 16 characters, also as others quote it."""
    if len(key) >= MIN_MASKED_KEY:
        for form in _forms(key):
            text = text.replace(form, "[key]")
    return text


def max_length(key: str) -> int:
    """Return the number of characters of a key where it is quoted with the most of them; 0 for one not masked."""
    return len(_forms(key)[0]) if len(key) >= MIN_MASKED_KEY else 0


@lru_cache(maxsize=4)
def _forms(key: str) -> tuple[str, ...]:
    """Return a key as it is, and as addresses, JSON and HTML have it: most keys look the same there. Longest first."""
    in_json = json.dumps(key)[1:-1]
    forms = {key, quote(key), quote(key, safe=""), quote_plus(key), in_json, in_json.replace("/", "\\/")}
    return tuple(sorted({*forms, html.escape(key), html.escape(key, quote=False)}, key=len, reverse=True))
