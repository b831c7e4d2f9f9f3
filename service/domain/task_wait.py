"""What a task waited for before it was submitted, for its history. Only computes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from service.domain.submission_limits import LimitName

WaitReason = Literal["throttled", "not_sent", "provider_pause", "upstream_rate", "queue"] | LimitName
"""`throttled` and `not_sent`: a submission was tried in vain. The others: the task was not tried until `last_at`."""

REASON_WORDS: dict[WaitReason, str] = {
    "throttled": "the provider asked for fewer requests",
    "not_sent": "the submission had no effect",
    "provider_pause": "the provider asked for a pause",
    "upstream_rate": "UPSTREAM_RATE or UPSTREAM_CONCURRENCY was reached",
    "queue": "no process submitted it, or a limit of its client was reached",
    "no_credit": "the provider's account had no credit",
}


@dataclass(frozen=True, kw_only=True)
class Wait:
    """One wait of a task, or one submission in vain; in the history those with the same reason are one entry."""

    reason: WaitReason
    first_at: datetime
    last_at: datetime
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class WaitRow:
    """The waits of one task for one reason; `detail` is that of the last one."""

    task_id: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    detail: str | None

    def joined(self, later: "WaitRow") -> "WaitRow":
        """Return both as one."""
        return WaitRow(
            task_id=self.task_id,
            reason=self.reason,
            count=self.count + later.count,
            first_at=min(self.first_at, later.first_at),
            last_at=max(self.last_at, later.last_at),
            detail=later.detail or self.detail,
        )


def wait_detail(reason: WaitReason) -> str:
    """Return the sentence for a wait without a better one."""
    return REASON_WORDS.get(reason, f"{reason.upper()} was reached")
