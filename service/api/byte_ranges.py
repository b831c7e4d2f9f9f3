"""Conditional requests and ranges of bytes (RFC 9110, sections 13 and 14). Only computes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
"""One range. Several ones, and other units, are answered with the whole content, which the RFC permits."""

_TAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')
MAX_HEADER = 4096


@dataclass(frozen=True)
class ByteRange:
    """The bytes from `start` up to `stop`."""

    start: int
    stop: int


class Unsatisfiable(Exception):
    """A range begins behind the end."""


def requested_range(values: Sequence[str], if_range: Sequence[str], etag: str, size: int) -> ByteRange | None:
    """Return the range that the headers Range and If-Range ask for, None for the whole content.

    An If-Range of another version, or with a date, asks for the whole. Raises Unsatisfiable.
    """
    if len(values) != 1 or len(if_range) > 1 or (if_range and if_range[0].strip() != etag):
        return None
    found = _RANGE.fullmatch(values[0][:MAX_HEADER])
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start, stop = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, stop)


def has_current(values: Sequence[str], etag: str) -> bool:
    """Return whether the header If-None-Match names the version `etag`: the client has it already."""
    text = ",".join(values)[:MAX_HEADER]
    return text.strip() == "*" or etag in {tag.removeprefix("W/") for tag in _TAG.findall(text)}
