"""Check one plain value against its kind: what is wrong with it, each time with the limit and the mend.

Types are strict: `"5"`, `5.0` and `true` are no integers. A message never repeats more than a few characters of
what the caller sent.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import assert_never
from urllib.parse import urlsplit

from service.domain.media.limits import listed
from service.domain.models.parameter_types import Address, Choice, Flag, Text, Whole

SHOWN_CHARS = 40
ADDRESS_CHARS = 8192  # far above any signed address; a longer one is data in disguise, and would be kept as text

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_IN_ADDRESS = re.compile("[\\s\x00-\x20\x7f\ud800-\udfff]")
_INT_BITS_SHOWN = 128


def shown(value: object) -> str:
    """Return a few characters that tell the caller which value is meant; never raises, always printable."""
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN_CHARS else repr(value[:SHOWN_CHARS])[:-1] + "...'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > _INT_BITS_SHOWN:
        return "an integer of hundreds of digits" if value.bit_length() > 8 * _INT_BITS_SHOWN else "a huge integer"
    if isinstance(value, int | float):
        return str(value)
    return "a list" if isinstance(value, list) else "an object"


def printable(name: str) -> str:
    """Return a parameter's name short and free of what cannot be sent, so that it may stand in an answer."""
    clean = _UNSTORABLE.sub("\ufffd", name[:SHOWN_CHARS])
    return clean if len(name) <= SHOWN_CHARS else f"{clean}..."


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like `word`, or None when none is; a long word is like none."""
    if len(word) > SHOWN_CHARS:
        return None
    by_lower = {name.lower(): name for name in known}
    matches = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def value_faults(kind: Text | Whole | Flag | Choice | Address, value: object, *, allow_unavailable: bool) -> list[str]:
    """Return what is wrong with `value` as a value of `kind`; empty when nothing is."""
    match kind:
        case Text():
            return _text_faults(kind, value)
        case Whole():
            return _whole_faults(kind, value)
        case Flag():
            return _flag_faults(kind, value, allow_unavailable=allow_unavailable)
        case Choice():
            return _choice_faults(kind, value)
        case Address():
            return address_faults(value)
        case _:  # pragma: no cover - mypy proves that there is no other kind
            assert_never(kind)


def _text_faults(kind: Text, value: object) -> list[str]:
    if not isinstance(value, str):
        return [_wrong_type("a string", value)]
    faults = []
    if not kind.blank and not value.strip():
        faults.append("must not be blank: write at least one character")
    if kind.max_chars is not None and len(value) > kind.max_chars:
        faults.append(f"must be at most {kind.max_chars:,} characters, is {len(value):,}: shorten it")
    if bad := _UNSTORABLE.search(value):
        faults.append(f"must not contain {_named(bad[0])} (at character {bad.start()}): remove it")
    return faults


def _whole_faults(kind: Whole, value: object) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, int):
        return [_wrong_type("an integer", value)]
    if kind.minimum <= value <= kind.maximum:
        return []
    return [f"must be from {kind.minimum} to {kind.maximum}, is {shown(value)}: choose one in that range"]


def _flag_faults(kind: Flag, value: object, *, allow_unavailable: bool) -> list[str]:
    if not isinstance(value, bool):
        return [_wrong_type("true or false", value)]
    if value and kind.unavailable and not allow_unavailable:
        return ["is temporarily unavailable upstream: leave it out or set it to false"]
    return []


def _choice_faults(kind: Choice, value: object) -> list[str]:
    if not isinstance(value, str):
        return [_wrong_type(f"one of the strings {listed(kind.values)}", value)]
    if value in kind.values:
        return []
    return [f"must be one of {listed(kind.values)}, is {shown(value)}: choose one of them"]


def address_faults(value: object) -> list[str]:
    """Return what is wrong with `value` as an absolute http or https URL."""
    if not isinstance(value, str):
        return [_wrong_type("an http or https address", value)]
    if len(value) > ADDRESS_CHARS:
        return [f"must be an address of at most {ADDRESS_CHARS:,} characters, has {len(value):,}: use a shorter one"]
    if bad := _NOT_IN_ADDRESS.search(value):
        return [f"must be an address without {_named(bad[0])} (at character {bad.start()}): percent-encode it"]
    if not _is_http(value):
        return [f"must be an http or https address with a host, is {shown(value)}: write it as https://host/path"]
    return []


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _named(character: str) -> str:
    """Return what to call a character that may not be there."""
    if character == "\x00":
        return "a NUL character"
    if "\ud800" <= character <= "\udfff":
        return f"a lone surrogate (U+{ord(character):04X})"
    return "spaces, line breaks or control characters"


def _wrong_type(wanted: str, value: object) -> str:
    mends = {str: "write it without quotes", type(None): "leave it out instead"}
    return f"must be {wanted}, is {shown(value)}: {mends.get(type(value), f'send {wanted}')}"
