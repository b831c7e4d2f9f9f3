"""Lenient JSON reading for a provider's answers: what is needed is read, the rest is tolerated.

Requests to this service's own API are read strictly, see `strict_json`. A provider's answer is paid for: one odd field
must not hide the id or the result beside it.
"""

import codecs
import json
import math
import re
from typing import Any

from service.domain.errors import UnreadableBody
from service.domain.strict_json import MAX_DEPTH, MAX_VALUES, exceeds_max_values
from service.domain.task import Json

MAX_DIGITS = 1000
"""Digits up to which an integer is a number; Python refuses to convert longer ones."""

MAX_PARTS = 4 * MAX_VALUES
"""Brackets, commas, texts and plain words that are read of a text which is not JSON."""

_PADDING = " \t\r\n\0\ufeff"
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_GUARD = re.compile(
    r"(?:\)\]\}'?,?|while\(1\);|for\(;;\);|[A-Za-z_$][\w$.]{0,60}\(|(?:(?:event|id|retry):[^\n]{0,200}\s+){0,9}data:)\s*(?=[\[{])"
)
"""What may stand before a value: a guard against scripts, the call of a JSONP answer, the fields of an event stream."""
_PART = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:"]|[^\s{}\[\],:"]++', re.DOTALL)


class IncompleteJson(UnreadableBody):
    """A text that is cut off, or broken in its structure. `value` is the object as far as it can be read."""

    def __init__(self, value: Json) -> None:
        super().__init__("the body is not complete JSON")
        self.value = value


def parse_lenient(raw: bytes, *, max_parts: int = MAX_PARTS) -> object:
    """Return the JSON value at the beginning of `raw`; of one that is broken at most `max_parts` are read.

    Byte-order marks, a guard before the value, invalid bytes, lone surrogates, control characters in texts, NaN and
    infinite numbers (None), repeated keys (the last value that is not null) and text after it are tolerated. Raises
    IncompleteJson for a text that is cut off, and UnreadableBody for one that is not JSON or holds more than 100,000
    values.
    """
    if exceeds_max_values(raw):
        raise IncompleteJson(_complete_parts(_decoded(raw), max_parts)[0])
    text = _decoded(raw)
    try:
        value: object = _DECODER.raw_decode(text)[0]
    except (ValueError, RecursionError) as error:
        parts, closed = _complete_parts(text, max_parts)
        if closed:
            return parts
        if parts:
            raise IncompleteJson(parts) from error
        raise UnreadableBody("the body is not JSON") from error
    return value


def _decoded(raw: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            return _unguarded(raw[len(mark) :].decode(encoding, "replace").strip(_PADDING))
    return _unguarded(raw.decode("utf-8", "replace").strip(_PADDING))


def _unguarded(text: str) -> str:
    guard = None if text[:1] in {"{", "["} else _GUARD.match(text)
    return text[guard.end() :] if guard else text


def _last_value(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for key, value in pairs:
        if value is not None or key not in found:
            found[key] = value
    return found


def _finite_float(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= MAX_DIGITS else text


_DECODER = json.JSONDecoder(
    strict=False,
    object_pairs_hook=_last_value,
    parse_constant=lambda _name: None,
    parse_float=_finite_float,
    parse_int=_integer,
)


def _complete_parts(text: str, max_parts: int) -> tuple[Json, bool]:
    """Return the object at the beginning of `text` with every value that is complete, and whether the object ends.

    A text or a number at the cut is left out: half an id is another id.
    """
    if not text.startswith("{"):
        return {}, False
    reader = _PartialReader()
    for count, found in enumerate(_PART.finditer(text)):
        part = found.group()
        if part == '"' or count > max_parts:  # a text without an end
            break
        if reader.read(part, last=found.end() == len(text)):
            return reader.root, True
    return reader.root, False


class _PartialReader:
    """Builds an object from its parts, without recursion."""

    def __init__(self) -> None:
        self.root: Json = {}
        self._stack: list[tuple[Json | list[Any], list[str]]] = []

    def read(self, part: str, *, last: bool) -> bool:
        """Take one part, with `last` that at the end of the text; return whether the object is complete."""
        if part in "{[":
            self._open({} if part == "{" else [])
        elif part in "}]":
            self._stack.pop()
            return not self._stack
        elif part == ",":
            self._stack[-1][1].clear()
        elif part != ":" and not (last and part[0] != '"'):
            self._take(_scalar(part))
        return False

    def _open(self, container: Json | list[Any]) -> None:
        if not self._stack:
            self.root = container if isinstance(container, dict) else {}
        elif len(self._stack) < MAX_DEPTH:
            self._take(container)
        self._stack.append((container, []))

    def _take(self, value: object) -> None:
        """Add a value to the innermost container; in an object the first text is the key of the next value."""
        container, key = self._stack[-1]
        if isinstance(container, list):
            container.append(value)
        elif key:
            container[key.pop()] = value
        elif isinstance(value, str):
            key.append(value)


def _scalar(part: str) -> object:
    """Return the value of a text or a plain word; a text with an unknown escape is returned as it is written."""
    try:
        return _DECODER.decode(part)
    except ValueError:
        return part[1:-1] if part.startswith('"') else None
