"""Durations as settings spell them."""

import re
from datetime import timedelta

UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
MAX_DURATION = timedelta(days=3650)


def duration(text: str) -> timedelta:
    """Return the duration that `30s` names: a whole number and one of ms, s, m, h, d; from 0 to 3650 days."""
    match = re.fullmatch(r"([0-9]{1,12})(ms|s|m|h|d)", text)
    # compared before it is multiplied, because a timedelta overflows
    if match is None or int(match[1]) > MAX_DURATION / UNITS[match[2]]:
        raise ValueError("must be a duration like 500ms, 30s, 15m, 2h or 30d, at most 3650d")
    return int(match[1]) * UNITS[match[2]]
