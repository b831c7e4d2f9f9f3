"""Parsers of switch values: chances, seconds, spans of seconds, counts, flags and texts."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_SECONDS = re.compile(r"(\d{1,15}(?:\.\d+)?)\s*(ms|s|m|h|d|)")
_FIRST = re.compile(r"first[ :=]?(\d{1,15})")
_MAX_COUNT = 1e15  # larger floats are not exact integers


class SwitchError(ValueError):
    """Raised for a switch that does not exist, and for a value that it does not accept."""


@dataclass(frozen=True, slots=True)
class First:
    """A fault occurs on its first `count` occasions, and on no later one."""

    count: int


Chance: TypeAlias = float | First
"""How often a fault occurs: a probability from 0 to 1, or the first n occasions."""

Span: TypeAlias = float | tuple[float, float]
"""A number of seconds, or a range from which each task draws its own number."""


def read_chance(value: object) -> Chance:
    """Read `0.3`, `true`, `"0.3"`, `First(3)` or `"first 3"`; raise `SwitchError` for anything else."""
    if isinstance(value, First):
        return value
    if isinstance(value, str) and (first := _FIRST.fullmatch(value.strip().lower())):
        return First(int(first[1]))
    chance = _number(value)
    if not 0.0 <= chance <= 1.0:
        raise SwitchError(f"{value!r} is not a chance: use a probability from 0 to 1, or 'first N'")
    return chance


def read_seconds(value: object) -> float:
    """Read `1.5`, `"500ms"`, `"2m"` or `"24h"` as seconds, 0 or more; raise `SwitchError` for anything else."""
    if isinstance(value, str):
        found = _SECONDS.fullmatch(value.strip().lower())
        if found is None:
            raise SwitchError(f"{value!r} is not a duration: use 500ms, 30s, 15m, 2h or 1d")
        return float(found[1]) * _UNITS[found[2]]
    seconds = _number(value)
    if not 0.0 <= seconds < float("inf"):
        raise SwitchError(f"{value!r} is not a duration: use 0 or more")
    return seconds


def read_span(value: object) -> Span:
    """Read seconds, or a range as `"1s..3s"` or `[1, 3]`; raise `SwitchError` for anything else."""
    ends = value.split("..") if isinstance(value, str) and ".." in value else value
    if not isinstance(ends, list | tuple):
        return read_seconds(value)
    if len(ends) != 2:  # noqa: PLR2004 - a range has two ends
        raise SwitchError(f"{value!r} is not a range: use 1s..3s")
    low, high = (read_seconds(end) for end in ends)
    if low > high:
        raise SwitchError(f"{value!r} is not a range: the smaller end comes first")
    return low, high


def read_count(value: object) -> int:
    """Read a whole number, 0 or more; raise `SwitchError` for anything else."""
    number = _number(value)
    if not (0 <= number < _MAX_COUNT and number == int(number)):
        raise SwitchError(f"{value!r} is not a count: use a whole number, 0 or more")
    return int(number)


def read_flag(value: object) -> bool:
    """Read a JSON boolean; raise `SwitchError` for anything else."""
    if not isinstance(value, bool):
        raise SwitchError(f"{value!r} is neither true nor false")
    return value


def read_text(value: object) -> str:
    """Read a string; raise `SwitchError` for anything else."""
    if not isinstance(value, str):
        raise SwitchError(f"{value!r} is not a text")
    return value


READERS: Mapping[object, Callable[[object], object]] = {
    Chance: read_chance,
    Span: read_span,
    float: read_seconds,
    int: read_count,
    bool: read_flag,
    str: read_text,
}
"""The parser of each type of switch."""


def to_json_value(value: object) -> object:
    """Return the JSON form of a switch's value, which the parsers accept."""
    if isinstance(value, First):
        return f"first {value.count}"
    return list(value) if isinstance(value, tuple) else value


def _number(value: object) -> float:
    if not isinstance(value, int | float | str):
        raise SwitchError(f"{value!r} is not a number")
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise SwitchError(f"{value!r} is not a number") from error
