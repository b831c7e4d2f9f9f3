"""Frozen values in a hurry: made of fields that are known to fit, or copied with a few of them changed.

`dataclasses` sets each field of a frozen value by a call of its own, which takes ten times as long. Only for classes
whose making computes nothing, and that keep their fields in a dictionary.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def construct_unchecked(kind: type[T], fields: Mapping[str, Any]) -> T:
    """Return a value of `kind` with all of its `fields`, in their order."""
    value = object.__new__(kind)
    vars(value).update(fields)
    return value


def replace_fields(value: T, **changes: object) -> T:
    """Return a copy of `value` with `changes`, or itself where nothing differs; TypeError for a field it lacks."""
    fields = vars(value)
    if not changes.keys() <= fields.keys():
        raise TypeError(f"{type(value).__name__} has no field {', '.join(changes.keys() - fields.keys())}")
    differs = any(new is not fields[name] and new != fields[name] for name, new in changes.items())
    return construct_unchecked(type(value), fields | changes) if differs else value
