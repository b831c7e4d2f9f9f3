"""The pause of all submissions while the provider says that its account has no credit. Only computes.

Such a refusal is certain: nothing was billed. The task is queued again, and after a pause one task is tried. Each
further refusal doubles the pause, up to MAX_PAUSE; the first submission that is accepted ends it for all.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_PAUSE = timedelta(minutes=1)
MAX_PAUSE = timedelta(minutes=15)
MAX_DOUBLINGS = 4

PROBE_TIME = timedelta(minutes=2)
"""How long the result of a probe is awaited before another task is tried."""


@dataclass(frozen=True, kw_only=True)
class CreditPause:
    """A pause since `since`: `refusals` in a row, the last one known at `refused_at`; the next probe at `resume_at`."""

    since: datetime
    refused_at: datetime
    resume_at: datetime
    refusals: int

    def holds(self, now: datetime) -> bool:
        """Return whether no task may be tried yet; a time too far away is due to a clock that moved back."""
        return now < self.resume_at <= now + MAX_PAUSE


def after_refusal(pause: CreditPause | None, submitted_at: datetime, now: datetime) -> CreditPause:
    """Return the pause after the refusal of a submission that began at `submitted_at`.

    One that began before the last refusal was known brings no new information.
    """
    if pause and submitted_at <= pause.refused_at <= now:
        return pause
    refusals = pause.refusals + 1 if pause else 1
    length = min(MAX_PAUSE, FIRST_PAUSE * 2 ** min(refusals - 1, MAX_DOUBLINGS))
    return CreditPause(since=pause.since if pause else now, refused_at=now, resume_at=now + length, refusals=refusals)
