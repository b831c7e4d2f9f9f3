"""Arithmetic that the schedules of polls and of retries share."""

from datetime import UTC, datetime, timedelta

JITTER = 0.1
"""The share of a pause that jitter may change."""


def add_seconds(at: datetime, seconds: float) -> datetime:
    """Return `at` plus `seconds`, not before `at`, and the last possible moment instead of an overflow."""
    try:
        return at + timedelta(seconds=max(0.0, seconds))
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
