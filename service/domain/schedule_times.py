"""Arithmetic of the schedules of polls and retries."""

from datetime import UTC, datetime, timedelta

JITTER = 0.1
"""Share of a pause that jitter may change."""


def add_seconds(at: datetime, seconds: float) -> datetime:
    """Return `at` plus `seconds`, but not before `at`; the last possible moment instead of an overflow."""
    try:
        return at + timedelta(seconds=max(0.0, seconds))
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
