"""Strict JSON parsing: ambiguous, too deep and too large documents are refused."""

import json
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn

from pydantic_core import from_json

from service.domain.errors import UnreadableBody
from service.domain.task import Json

MAX_DEPTH = 64

MAX_VALUES = 100_000
"""A few hundred are usual. Each value takes Python some 60 bytes, though only two in the body."""

MAX_DIGITS = 1000
"""Digits up to which an integer is read; Python refuses to convert longer ones."""

LONG_BODY = 16 * 1024
"""Bytes from which strings are removed before values are counted."""

FEW_STRINGS = 200
"""A long body with at most this many strings consists mostly of them."""

TOO_MANY_VALUES = f"the body holds more than {MAX_VALUES:,} values"

LONG_STRING = 16 * 1024
"""Bytes from which a string is long: inline media are. Python's decoder takes ten times as long for them."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # always matches, so it never backtracks
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_WHITESPACE = " \t\n\r"


def parse_json(raw: bytes) -> object:
    """Return the JSON value in `raw`, which must be UTF-8 without a byte order mark (RFC 8259, section 8.1).

    Raises UnreadableBody for NaN and infinite numbers, lone surrogates, repeated keys, nesting deeper than 64 and more
    than 100,000 values. The caller limits the length of `raw`.
    """
    structure = _without_strings(raw)
    if _too_many(structure):
        raise UnreadableBody(TOO_MANY_VALUES)
    if len(structure) < LONG_BODY and len(raw) - len(structure) >= LONG_STRING and b"\\" not in raw:
        with suppress(ValueError, UnreadableBody):  # the same is found again, at its place in the whole body
            short, strings = _without_long_strings(raw)
            return _put_back(_parse(short, structure), strings)
    return _parse(raw, structure)


def _parse(raw: bytes, structure: bytes) -> object:
    """Return the JSON value in `raw`; `structure` is `raw` without its strings, or with them."""
    try:
        text = raw.decode("utf-8").strip(_WHITESPACE)
        value, end = _DECODER.raw_decode(text)
        if b"\\" in raw and _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise UnreadableBody(f"the body is not accepted JSON: {_reason(error)}") from error
    if end != len(text):
        raise UnreadableBody("the body is not accepted JSON: something follows the value")
    if structure.count(b"[") + structure.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise UnreadableBody(f"the body is nested deeper than {MAX_DEPTH}")
    return value


def require_few_values(raw: bytes) -> None:
    """Raise UnreadableBody if `raw`, which another reader will parse, holds more than 100,000 values."""
    if exceeds_max_values(raw):
        raise UnreadableBody(TOO_MANY_VALUES)


def exceeds_max_values(raw: bytes) -> bool:
    """Return whether `raw` holds more than 100,000 values."""
    return _too_many(_without_strings(raw))


def _too_many(structure: bytes) -> bool:
    return len(structure) > MAX_VALUES and _has_too_many_values(structure)


def _reason(error: Exception) -> str:
    """Return the error in the JSON text and its position, if known, without repeating any of the text."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8, or holds half a surrogate pair"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


def _without_strings(raw: bytes) -> bytes:
    """Return `raw` without its strings where that is fast: most of a long body consists of them."""
    if len(raw) < LONG_BODY or b"\\" in raw:
        return raw
    parts: list[bytes] = []
    at = 0
    for _ in range(FEW_STRINGS + 1):
        begin = raw.find(b'"', at)
        if begin < 0:
            return b"".join([*parts, raw[at:]])
        parts.append(raw[at:begin])
        at = raw.find(b'"', begin + 1) + 1 or len(raw)
    return raw


def _without_long_strings(raw: bytes) -> tuple[bytes, list[str]]:
    """Return `raw`, which has no escapes, with marks in place of long strings that are values, and these strings.

    A mark is a NUL with the index of its string: without escapes, no other string has a NUL. Raises ValueError for a
    string that is not UTF-8 or contains a control character.
    """
    parts: list[bytes] = []
    strings: list[str] = []
    at, end = 0, -1
    for _ in range(FEW_STRINGS):
        begin = raw.find(b'"', end + 1)
        end = raw.find(b'"', begin + 1)
        if begin < 0 or end < 0:
            break
        if end - begin >= LONG_STRING and raw[end + 1 : end + 2] in {b",", b"]", b"}"}:  # a key has a colon
            parts += [raw[at:begin], b'"\\u0000%d"' % len(strings)]
            strings.append(from_json(raw[begin : end + 1], cache_strings=False))
            at = end + 1
    return b"".join([*parts, raw[at:]]), strings


def _put_back(value: object, strings: list[str]) -> object:
    """Return `value` with the long strings in place of their marks."""
    if isinstance(value, dict):
        return {name: _put_back(each, strings) for name, each in value.items()}
    if isinstance(value, list):
        return [_put_back(each, strings) for each in value]
    return strings[int(value[1:])] if isinstance(value, str) and value.startswith("\0") else value


def _has_too_many_values(raw: bytes) -> bool:
    """Return whether there are too many values: each except the first follows a comma or an opening bracket."""
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") <= MAX_VALUES:
        return False
    outside = _STRING.sub(b"", raw)
    return outside.count(b",") + outside.count(b"[") + outside.count(b"{") > MAX_VALUES


def _unique(pairs: list[tuple[str, object]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is written twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("a number is out of range")
    return int(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_integer
)


def _deeper_than(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
