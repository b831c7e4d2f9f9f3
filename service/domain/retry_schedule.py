"""When a failed delivery or an unsent submission is tried again, as pure decisions."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from service.domain.schedule_times import JITTER, add_seconds

SUBMISSION_CAP = 60.0


RETRY_AFTER_CAP = timedelta(hours=1)


def next_attempt(
    schedule: Sequence[timedelta], attempt: int, limit: int | None, now: datetime, jitter: float
) -> datetime | None:
    """Return when the next attempt is due; None to give up.

    `attempt` counts those already made, entry k of `schedule` is the pause before attempt k + 1. `limit` is the most
    attempts, None for one for each entry; past the schedule its last entry repeats. `jitter` (0 to 1) adds up to 10 %.
    """
    most = len(schedule) if limit is None else limit
    if attempt >= most or not schedule:
        return None
    pause = schedule[min(max(attempt, 0), len(schedule) - 1)].total_seconds()
    return add_seconds(now, pause * (1 + JITTER * jitter))


def next_submission(tries: int, now: datetime, jitter: float, retry_after: timedelta | None) -> datetime:
    """Return when to send again what surely never left: after 1 s, 2 s, 4 s and so on to 60 s.

    `tries` counts the sendings before the one that has just not left, so from 0. A longer `retry_after` of the
    upstream's is honoured up to an hour. `jitter` (0 to 1) adds up to 10 %.
    """
    doublings = min(max(tries, 0), 6)
    pause = min(SUBMISSION_CAP, 2.0**doublings)
    asked = min(retry_after or timedelta(), RETRY_AFTER_CAP).total_seconds()
    return add_seconds(now, max(pause, asked) * (1 + JITTER * jitter))
