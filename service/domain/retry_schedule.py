"""When a failed delivery or an unsent submission is tried again. Only computes."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from service.domain.schedule_times import JITTER, add_seconds

OWN_SCHEDULE = "RETRY_SCHEDULE_"
"""Begins the name of the setting with the schedule of one handler."""

SUBMISSION_CAP = 60.0
"""Longest pause in seconds between attempts to submit, unless the provider asks for more."""

RETRY_AFTER_CAP = timedelta(hours=1)
"""Longest pause that a provider may ask for."""


def next_attempt(
    schedule: Sequence[timedelta], attempt: int, limit: int | None, now: datetime, jitter: float
) -> datetime | None:
    """Return when the next attempt of a delivery is due; None if there is none.

    `attempt` counts the attempts so far; entry k of `schedule` is the pause before attempt k + 1. `limit` is the
    maximum number of attempts, None for one for each entry; past the schedule its last entry repeats. `jitter` (0 to 1)
    adds up to 10 %.
    """
    max_attempts = len(schedule) if limit is None else limit
    if attempt >= max_attempts or not schedule:
        return None
    pause = schedule[min(max(attempt, 0), len(schedule) - 1)].total_seconds()
    return add_seconds(now, pause * (1 + JITTER * jitter))


def next_submission(tries: int, now: datetime, jitter: float, retry_after: timedelta | None) -> datetime:
    """Return when to submit a task again that was not sent: after 1 s, 2 s, 4 s and so on to 60 s.

    `tries` counts the attempts before the last one, so from 0. A longer `retry_after` of the provider is respected up
    to an hour. `jitter` (0 to 1) adds up to 10 %.
    """
    doublings = min(max(tries, 0), 6)
    pause = min(SUBMISSION_CAP, 2.0**doublings)
    requested = min(retry_after or timedelta(), RETRY_AFTER_CAP).total_seconds()
    return add_seconds(now, max(pause, requested) * (1 + JITTER * jitter))


def schedule_name(handler: str) -> str:
    """Return what follows OWN_SCHEDULE in the name of the setting of a handler."""
    return handler.upper().replace("-", "_")
