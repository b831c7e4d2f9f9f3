"""Task ids of the providers: which values are one, and how one stands in a path."""

import re
from urllib.parse import quote, unquote

from service.domain.errors import UnknownTask
from service.domain.task import UpstreamId

MAX_ID = 512
"""Longest id in characters."""

_UNUSABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]")
_PLACEHOLDERS = frozenset({"0", "none", "null", "undefined", "nan", "false", "true", "-1"})
_PLAIN = re.compile(r"[A-Za-z0-9_-]{10,512}")
"""An id that is surely one: no placeholder is as long. Most ids are plain."""
_BARE = re.compile(r"(?=.*[0-9])[A-Za-z0-9][A-Za-z0-9._:~/-]{7,511}")
_MIN_BARE_NUMBER = 10**6
_LOCATION = re.compile(r"/tasks?/([^/?#]+)")


def task_id(value: object) -> UpstreamId | None:
    """Return the id in a text or a number, None for any other value.

    An id has 1 to 512 characters, none of them a blank or a control character, and no segment `.` or `..`, which would
    change the path of a poll.
    """
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return UpstreamId(value)
    if isinstance(value, list) and len(value) == 1:
        return task_id(value[0])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**MAX_ID else ""
    if not isinstance(value, str):
        return None
    text = value.strip()
    if not 0 < len(text) <= MAX_ID or _UNUSABLE.search(text) or text.lower() in _PLACEHOLDERS:
        return None
    return None if {".", ".."} & set(text.split("/")) else UpstreamId(text)


def bare_id(value: object) -> UpstreamId | None:
    """Return the id in a value without a name, as in `{"data": "d758n65e878c"}`; None for what may be another thing."""
    if isinstance(value, str):
        return task_id(value) if _BARE.fullmatch(value.strip()) and "//" not in value else None
    number = isinstance(value, int) and not isinstance(value, bool) and value >= _MIN_BARE_NUMBER
    return task_id(value) if number else None


def id_in_location(location: str) -> UpstreamId | None:
    """Return the id in the header `Location` of a created task, None without one."""
    found = _LOCATION.search(location)
    return task_id(unquote(found[1])) if found else None


def path_segment(upstream_id: UpstreamId) -> str:
    """Return the id as one segment of a path, percent-encoded; raises UnknownTask for a value that is no id."""
    if task_id(upstream_id) != upstream_id:
        raise UnknownTask("not a valid provider id")
    return quote(upstream_id, safe="")
