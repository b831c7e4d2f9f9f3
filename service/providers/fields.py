"""Reading what others wrote: JSON without its traps, and single values taken out of it with care."""

import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import NoReturn
from urllib.parse import urlsplit

from service.domain.errors import UnreadableBody, Unwell
from service.domain.task import Json, UpstreamId

MAX_DEPTH = 64
MAX_VALUES = 100_000  # a few hundred are usual; each costs Python some 60 bytes, though only two in the body
MAX_TEXT = 2000
MAX_URL = 8192
MAX_CORRELATION = 1024
MAX_TOKEN = 256
MAX_NUMBER = 10**18

LONG = 16 * 1024
FEW_TEXTS = 200
"""A body longer than LONG with no more texts than this is mostly text, which is left out when values are counted."""

TEXTUAL = (str, int)
NUMERIC = (str, int, float)
"""Made once: a union that is written in place is made at each call."""

UPSTREAM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
"""What an upstream's id may be: safe as one segment of a path."""

_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # it never fails, so that it never looks twice
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = " \t\n\r"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,100}~[0-9]{1,9}(~[0-9]{1,11})?\.[A-Za-z0-9_-]{20,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_PLAIN_MONEY = re.compile(r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")
_HTTP = re.compile(r"https?://[^\s\x00-\x20]+", re.IGNORECASE)
_PLAIN_HTTP = re.compile(r"https?://[A-Za-z0-9.-]+(/[!-~]*)?")


def parse_json(raw: bytes) -> object:
    """Return the JSON value in `raw`, which must be UTF-8.

    Refuses NaN and infinite numbers, lone surrogates, a key written twice, nesting deeper than 64 and more than 100,000
    values with UnreadableBody. The caller bounds the length of `raw`.
    """
    structure = _without_texts(raw)
    if _crowded(structure):
        raise UnreadableBody(f"the body holds more than {MAX_VALUES:,} values")
    try:
        text = raw.decode("utf-8").strip(_SPACE)
        value = _whole(text)
        if b"\\" in raw and _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise UnreadableBody(f"the body is no JSON that we accept: {_fault(error)}") from error
    if _brackets(structure) > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise UnreadableBody(f"the body is nested deeper than {MAX_DEPTH}")
    return value


def _fault(error: Exception) -> str:
    """Return what is wrong with a text, and where, as far as that is known; nothing of the text itself."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8, or holds half a surrogate pair"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


def _whole(text: str) -> object:
    value, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise ValueError("something follows the value")
    return value


def _without_texts(raw: bytes) -> bytes:
    """Return `raw` without its texts where that is quick: in a long body they are mostly all of it."""
    if len(raw) < LONG or b"\\" in raw:
        return raw
    parts: list[bytes] = []
    at = 0
    for _ in range(FEW_TEXTS + 1):
        begin = raw.find(b'"', at)
        if begin < 0:
            return b"".join([*parts, raw[at:]])
        parts.append(raw[at:begin])
        at = raw.find(b'"', begin + 1) + 1 or len(raw)
    return raw


def _crowded(raw: bytes) -> bool:
    """Whether there are too many values: each but the first follows a comma or a bracket, and texts hold none."""
    return len(raw) > MAX_VALUES and _marks(raw) > MAX_VALUES and _marks(_TEXT.sub(b"", raw)) > MAX_VALUES


def _marks(raw: bytes) -> int:
    return raw.count(b",") + _brackets(raw)


def _brackets(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")


def _unique(pairs: list[tuple[str, object]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is written twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite_float)


def _deeper_than(value: object, limit: int) -> bool:
    layer = [value]
    for _ in range(limit):
        layer = [inner for outer in layer for inner in _children(outer)]
        if not layer:
            return False
    return any(isinstance(inner, dict | list) for inner in layer)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def clean(value: object, limit: int = MAX_TEXT) -> str:
    """Return `value` as one line of at most `limit` characters; "" for what is no text.

    Control characters become blanks, and what looks like one of our tokens `[token]`: texts travel to clients and logs.
    """
    if isinstance(value, bool) or not isinstance(value, TEXTUAL):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < MAX_NUMBER else ""
    if len(value) <= limit and value.isascii() and value.isprintable() and "~" not in value:
        return value.strip()
    return _TOKEN.sub("[token]", _CONTROL.sub(" ", value[: limit * 2 + MAX_TOKEN])).strip()[:limit]


def number(value: object) -> int | float | None:
    """Return a finite number that is written as a number or as text; None for anything else, booleans too."""
    if isinstance(value, bool) or not isinstance(value, NUMERIC):
        return None
    if isinstance(value, int) and abs(value) < MAX_NUMBER:
        return value
    exact = _decimal(value)
    if exact is None:
        return None
    return int(exact) if exact == exact.to_integral_value() and "." not in str(value) else float(exact)


def money(value: object) -> str | None:
    """Return an amount as plain decimal digits, from text or a number; None when it is negative or no amount."""
    if isinstance(value, bool) or not isinstance(value, NUMERIC):
        return None
    if isinstance(value, str) and _PLAIN_MONEY.fullmatch(value):
        return value
    exact = _decimal(value)
    return None if exact is None or exact < 0 else format(exact, "f")


def _decimal(value: str | float) -> Decimal | None:
    text = str(value)[:64] if not isinstance(value, int) or abs(value) < MAX_NUMBER else ""
    try:
        exact = Decimal(text.strip())
    except InvalidOperation:
        return None
    return exact if exact.is_finite() and abs(exact.adjusted()) <= 18 else None  # noqa: PLR2004 - beyond any real amount


def share(value: object) -> float | None:
    """Return progress as a number from 0 to 1, clamped; None for what is no finite number."""
    if isinstance(value, str):
        return None
    found = number(value)
    return None if found is None else min(1.0, max(0.0, float(found)))


def upstream_id(value: object) -> UpstreamId | None:
    """Return an id that is safe in a path; None when there is none; raises Unwell for one that is not."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not UPSTREAM_ID.fullmatch(value):
        raise Unwell("the upstream named a task by something that is no id")
    return UpstreamId(value)


def http_url(value: object) -> str | None:
    """Return an http or https address of at most 8,192 characters, unchanged; None for anything else."""
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
    """Return the body's `payload` when it may be a correlation token; None for what is missing, no text or too long."""
    found = body.get("payload")
    return found if isinstance(found, str) and 0 < len(found) <= MAX_CORRELATION else None


def json_object(value: object) -> Json:
    """Return `value` when it is a JSON object; raises Unwell otherwise."""
    if not isinstance(value, dict):
        raise Unwell("the upstream answered with something that is no JSON object")
    return value


def error_object(body: object) -> Json | str:
    """Return the JSON object of an error answer, or a short line of text for any other body; bytes are parsed first."""
    if isinstance(body, bytes):
        try:
            return error_object(parse_json(body))
        except UnreadableBody:
            return plain_text(body[:4096].decode("utf-8", "replace"))
    if isinstance(body, dict):
        return body
    return plain_text(body) if isinstance(body, str) else ""


def plain_text(text: str) -> str:
    """Return the words of HTML or plain `text` on one line of at most 200 characters."""
    visible = re.sub(r"(?is)<(script|style)\b.*?(</\1\s*>|$)|<[^>]*(>|$)", " ", text[:4096])
    return clean(" ".join(visible.split()), 200)
