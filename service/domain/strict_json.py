"""JSON without its traps: what is ambiguous, too deep or too large is refused."""

import json
import math
import re
from collections.abc import Iterable
from typing import NoReturn

from service.domain.errors import UnreadableBody
from service.domain.task import Json

MAX_DEPTH = 64


MAX_VALUES = 100_000  # a few hundred are usual; each costs Python some 60 bytes, though only two in the body


LONG = 16 * 1024


FEW_TEXTS = 200
"""A body longer than LONG with no more texts than this is mostly text, which is left out when values are counted."""


_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # it never fails, so that it never looks twice


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


_SPACE = " \t\n\r"


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
