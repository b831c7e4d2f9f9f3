"""Fast construction and copies of frozen dataclasses.

`dataclasses` sets each field of a frozen value by a call of its own, which takes ten times as long. Only for classes
without computation in their constructor, which keep their fields in `__dict__`.
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
    """Return a copy of `value` with `changes`, or `value` itself if nothing differs.

    Raises TypeError for a field that it lacks.
    """
    fields = vars(value)
    if not changes.keys() <= fields.keys():
        raise TypeError(f"{type(value).__name__} has no field {', '.join(changes.keys() - fields.keys())}")
    for name, new in changes.items():
        if new is not fields[name] and new != fields[name]:
            return construct_unchecked(type(value), fields | changes)
    return value
