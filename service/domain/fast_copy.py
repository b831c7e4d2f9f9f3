"""Frozen values made from a dict of their fields, and their copies: for what runs many times for each task."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def construct_unchecked(kind: type[T], fields: dict[str, Any]) -> T:
    """Return a value of `kind`, a frozen dataclass, with all of its `fields`, in their order; it keeps that very dict.

    `dataclasses` sets each field of a frozen value by a call of its own, which takes ten times as long. Only for
    classes without computation in their constructor, which keep their fields in `__dict__`.
    """
    value = object.__new__(kind)
    object.__setattr__(value, "__dict__", fields)
    return value


def replace_fields(value: T, **changes: object) -> T:
    """Return a copy of `value` with `changes`, or `value` itself if nothing differs; see `construct_unchecked`.

    Raises TypeError for a field that it lacks. It runs many times for each task, so that unknown fields are only looked
    for where one shows.
    """
    fields = vars(value)
    try:
        for name, new in changes.items():
            if new is not (old := fields[name]) and new != old:
                break
        else:
            return value
    except KeyError:
        raise _unknown_field(value, changes) from None
    changed = fields | changes
    if len(changed) > len(fields):
        raise _unknown_field(value, changes)
    return construct_unchecked(type(value), changed)


def _unknown_field(value: object, changes: Mapping[str, object]) -> TypeError:
    return TypeError(f"{type(value).__name__} has no field {', '.join(changes.keys() - vars(value).keys())}")
