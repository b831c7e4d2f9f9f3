"""Check one value without pydantic: each function returns messages that name the limit and the fix.

A message repeats at most a few characters of the caller's value.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeAlias
from urllib.parse import urlsplit

from service.domain.media.limits import listed

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

SHOWN_CHARS = 40
MAX_ADDRESS_CHARS = 8192
"""Above the length of any signed address: a longer value is inline data, and would be stored as text."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_IN_ADDRESS = re.compile("[\\s\x00-\x20\x7f\ud800-\udfff]")
_INT_BITS_SHOWN = 128


def shorten(value: object) -> str:
    """Return a few characters that identify `value` to the caller. The result is always printable."""
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN_CHARS else repr(value[:SHOWN_CHARS])[:-1] + "...'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > _INT_BITS_SHOWN:
        return "an integer of hundreds of digits" if value.bit_length() > 8 * _INT_BITS_SHOWN else "a huge integer"
    if isinstance(value, int | float):
        return str(value)
    return "a list" if isinstance(value, list) else "an object"


def printable_name(name: str) -> str:
    """Return the name of a parameter, shortened and without characters that UTF-8 or the database refuse."""
    clean = _UNSTORABLE.sub("\ufffd", name[:SHOWN_CHARS])
    return clean if len(name) <= SHOWN_CHARS else f"{clean}..."


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`, or None. A long name is similar to none."""
    if len(name) > SHOWN_CHARS:
        return None
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def wrong_type(expected: str, value: object) -> str:
    """Return the message for a value of another type than `expected`."""
    fixes = {str: "write it without quotes", type(None): "leave it out instead"}
    return f"must be {expected}, is {shorten(value)}: {fixes.get(type(value), f'send {expected}')}"


def text_faults(value: object, *, max_chars: int | None, blank: bool) -> list[str]:
    """Return the faults of `value` as a string of at most `max_chars` Unicode characters."""
    if not isinstance(value, str):
        return [wrong_type("a string", value)]
    faults = []
    if not blank and not value.strip():
        faults.append("must not be blank: write at least one character")
    if max_chars is not None and len(value) > max_chars:
        faults.append(f"must be at most {max_chars:,} characters, is {len(value):,}: shorten it")
    if bad := _UNSTORABLE.search(value):
        faults.append(f"must not contain {_character_name(bad[0])} (at character {bad.start()}): remove it")
    return faults


def choice_fault(value: object, choices: Sequence[str]) -> str:
    """Return the message for a value that is not in `choices`."""
    if not isinstance(value, str):
        return wrong_type(f"one of the strings {listed(tuple(choices))}", value)
    return f"must be one of {listed(tuple(choices))}, is {shorten(value)}: choose one of them"


def address_faults(value: object) -> list[str]:
    """Return the faults of `value` as an absolute http or https URL."""
    if not isinstance(value, str):
        return [wrong_type("an http or https address", value)]
    if len(value) > MAX_ADDRESS_CHARS:
        return [
            f"must be an address of at most {MAX_ADDRESS_CHARS:,} characters, has {len(value):,}: use a shorter one"
        ]
    if bad := _NOT_IN_ADDRESS.search(value):
        return [f"must be an address without {_character_name(bad[0])} (at character {bad.start()}): percent-encode it"]
    if not _is_http(value):
        return [f"must be an http or https address with a host, is {shorten(value)}: write it as https://host/path"]
    return []


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _character_name(character: str) -> str:
    """Return the name of a forbidden character."""
    if character == "\x00":
        return "a NUL character"
    if "\ud800" <= character <= "\udfff":
        return f"a lone surrogate (U+{ord(character):04X})"
    return "spaces, line breaks or control characters"
