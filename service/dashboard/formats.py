"""How values read in pages: times, durations, amounts, sizes and states."""

import json
from datetime import datetime, timedelta

from service.domain.task import Json, Status

STEPS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
KB = 1000
NONE = "\N{EN DASH}"
SHAPES = {
    "queued": "○",
    "submitting": "◔",
    "in_progress": "◑",
    "completed": "✓",
    "failed": "✕",
    "canceled": "⊘",
    "in_doubt": "?",
    "expired": "⌛",
    "pending": "◔",
    "delivered": "✓",
    "dead": "✕",
    "retry": "↻",
    "active": "✓",
    "paused": "‖",
    "disabled": "✕",
    "open": "✕",
    "failing": "↻",
    "busy": "‖",
    "closed": "✓",
}
"""A sign for each state, so that it does not show by its colour alone."""
WORDS = {"in_progress": "in progress", "in_doubt": "in doubt", "dead": "dead letter"}


def duration(length: timedelta | None) -> str:
    """Return a length of time by its two largest units, like `3 min 20 s`; a dash without one."""
    if length is None:
        return NONE
    seconds = length.total_seconds()
    if 0 <= seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    left, parts = int(abs(seconds)), list[str]()
    for unit, size in STEPS:
        if left >= size and len(parts) < 2:  # noqa: PLR2004 - two units are enough
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts) or "0 s"


def seconds(value: object) -> str:
    """Return a number of seconds for a person."""
    return duration(timedelta(seconds=float(str(value or 0))))


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago a time is, or in how long: by its two largest units, or by whole days."""
    length = now - at
    if abs(length) < timedelta(seconds=2):
        return "now"
    whole_days = timedelta(days=abs(length).days)
    text = duration(whole_days or abs(length))
    return f"{text} ago" if length > timedelta() else f"in {text}"


def absolute(at: datetime) -> str:
    """Return a time in UTC for a person, to the millisecond."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"


def dollars(amount: object) -> str:
    """Return an amount in US dollars with at least two decimals, a dash without one."""
    try:
        value = float(str(amount))
    except ValueError:
        return NONE
    text = f"{value:.4f}".rstrip("0")
    return f"${text}{'0' * max(0, 2 - len(text.partition('.')[2]))}"


def size(count: object) -> str:
    """Return a number of bytes for a person, like `1.4 MB`."""
    value = float(str(count or 0))
    for unit in ("bytes", "kB", "MB"):
        if value < KB:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= KB
    return f"{value:.1f} GB"


def shape(state: str) -> str:
    """Return the sign of a state."""
    return SHAPES.get(state, "•")


def word(state: str) -> str:
    """Return the word of a state."""
    return WORDS.get(state, state.replace("_", " "))


def pretty(value: object) -> str:
    """Return a JSON value on several lines; a lone surrogate is escaped."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def sentence(text: str) -> str:
    """Return the text of a problem as a sentence."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}"


def cut(text: object, length: int) -> str:
    """Return at most `length` characters of a text, the last one an ellipsis where it was longer."""
    whole = str(text)
    return whole if len(whole) <= length else f"{whole[: length - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"


def prompt(params: Json) -> str:
    """Return the prompt of a task, empty without one."""
    text = params.get("prompt")
    return text if isinstance(text, str) else ""


STATUSES = [status.value for status in Status]
