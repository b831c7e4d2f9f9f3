"""Watches whether the provider's account has credit: without any, all submissions pause and one task is tried."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from service.domain.credit_pause import MAX_PAUSE, CreditPause
from service.domain.error_kinds import is_credit_refusal
from service.domain.errors import StoreUnavailable
from service.domain.ports.queues import CreditPauses
from service.domain.ports.signals import Clock
from service.domain.submission_limits import no_credit_sentence
from service.domain.task import Task, TaskError

log = structlog.get_logger("boomerang.tasks")


@dataclass(kw_only=True, slots=True, eq=False)
class CreditWatch:
    """Stores the pause of submissions after a refusal for want of credit, and its end. `provider` is its name.

    `waits` is false for ON_NO_CREDIT=fail: tasks fail then, and nothing pauses. `counts` has the refusals, and how
    often submissions continued.
    """

    pauses: CreditPauses
    clock: Clock
    provider: str
    waits: bool
    pause: CreditPause | None = field(init=False, default=None)
    counts: Counter[str] = field(init=False, default_factory=Counter)
    _may_be_stored: bool = field(init=False, default=True)  # until the first accepted submission of this process
    _logged_at: datetime | None = field(init=False, default=None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what an operator should know although the process is healthy."""
        return (f"submissions wait: {no_credit_sentence(self.pause)}",) if self.pause else ()

    async def refresh(self) -> None:
        """Read the pause that any process has stored."""
        if self.waits:
            self.pause = await self.pauses.current()
            self._may_be_stored = self._may_be_stored or self.pause is not None

    def is_refusal(self, error: TaskError, sent: str) -> bool:
        """Return whether `error` says that the account is empty and tasks wait for it; `sent` was in the request."""
        return self.waits and is_credit_refusal(self.provider, error, sent)

    async def refused(self, task: Task, code: str) -> None:
        """Begin or lengthen the pause of all submissions."""
        now = self.clock.now()
        self.counts["refused"] += 1
        self._may_be_stored = True
        try:
            self.pause = await self.pauses.refused(submitted_at=task.submitted_at or now, now=now)
        except StoreUnavailable as error:
            log.warning("pause of submissions not stored", error=str(error))
            return
        if self._logged_at is None or not self._logged_at <= now < self._logged_at + MAX_PAUSE:
            self._logged_at = now
            log.warning(
                "submissions paused, provider account has no credit",
                code=code,
                since=self.pause.since.isoformat(),
                next_try_at=self.pause.resume_at.isoformat(),
                hint="top up the account; ON_NO_CREDIT=fail lets tasks fail instead",
            )

    async def accepted(self, task: Task) -> None:
        """End the pause if this submission, which the provider accepted, began after the last refusal."""
        if not (self.waits and self._may_be_stored) or task.submitted_at is None:
            return
        try:
            ended = await self.pauses.accepted(submitted_at=task.submitted_at)
            self.pause = await self.pauses.current()
        except StoreUnavailable:
            return  # the next accepted submission ends it
        self._may_be_stored = self.pause is not None
        if ended:
            self.counts["continued"] += 1
            self._logged_at = None
            log.warning("submissions resumed, provider account has credit")
