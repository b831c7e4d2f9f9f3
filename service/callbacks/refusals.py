"""Traces of refused callbacks: counts, a rate-limited warning, and a line in the history of the task that is named.

Anybody can send a callback. What a refused one leaves is bounded: in memory by the number of reasons and of tasks a
minute, in the log by a line a minute for each reason, in the database by one row for each task and reason, without any
part of the request. It is written after the answer, which does not depend on whether the task exists.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from service.domain.errors import StoreUnavailable
from service.domain.ports.refusals import Refusal, RefusalLog
from service.domain.ports.signals import Clock
from service.domain.tokens import TokenClaims, unverified_claims

log = structlog.get_logger("boomerang.callbacks")

TASKS_A_MINUTE = 60
"""Tasks for whose histories refusals are kept in a minute; as many for tokens that no key verified, apart from them."""

PERIOD = timedelta(minutes=1)
"""Time between two warnings for one reason, and the minute of TASKS_A_MINUTE."""

MAX_WAITING = 10 * TASKS_A_MINUTE
"""Refusals in memory while the database cannot store them."""

UNVERIFIED = frozenset({"forged", "unknown_key"})
"""Reasons for which no key verified the token."""

IN_HISTORY = frozenset({"unknown_key", "expired", "another_task", "signature", "too_large", "too_slow"})
"""Reasons that a history shows. A body that cannot be read is in the inbox, and shown as a callback."""


@dataclass(kw_only=True)
class _Warned:
    """When a reason was logged last, and how many callbacks were refused for it since."""

    at: datetime
    since: int = 0


@dataclass(kw_only=True)
class Refusals:
    """Counts refused callbacks by reason in `counts`, and keeps what names a task until `flush` stores it."""

    store: RefusalLog
    clock: Clock
    counts: Counter[str] = field(init=False, default_factory=Counter)
    _warned: dict[str, _Warned] = field(init=False, default_factory=dict)
    _waiting: dict[tuple[str, str, int], Refusal] = field(init=False, default_factory=dict)
    _minute: datetime | None = field(init=False, default=None)
    _admitted: Counter[bool] = field(init=False, default_factory=Counter)

    def note(self, reason: str, token: str) -> None:
        """Count one refused callback to the address with `token`.

        A token that no key verifies, and that has the shape of a token, was signed with a key that is no longer known,
        or forged: there is no difference, and both count as `unknown_key`.
        """
        claims = unverified_claims(token)
        if reason == "forged" and claims:
            reason = "unknown_key"
        self.counts[reason] += 1
        now = self.clock.now()
        self._warn(reason, now)
        if claims and reason in IN_HISTORY:
            self._keep(reason, claims, now)

    async def flush(self, *, end: bool = False) -> int:
        """Store what waits, and log what no warning has named yet; return how many rows were written.

        At the `end` of the process what is younger than a minute is logged too.
        """
        now = self.clock.now()
        for reason, warned in self._warned.items():
            if warned.since and (end or _passed(warned.at, now)):
                self._log(reason, warned, now)
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return 0
        try:
            return await self.store.add(list(waiting.values()))
        except StoreUnavailable:
            newer, self._waiting = self._waiting, waiting
            for refusal in newer.values():
                self._fold(refusal)
            return 0

    def _warn(self, reason: str, now: datetime) -> None:
        warned = self._warned.setdefault(reason, _Warned(at=now - PERIOD))
        warned.since += 1
        if _passed(warned.at, now):
            self._log(reason, warned, now)

    def _log(self, reason: str, warned: _Warned, now: datetime) -> None:
        log.warning("callbacks refused", reason=reason, count=warned.since)
        warned.at, warned.since = now, 0

    def _keep(self, reason: str, claims: TokenClaims, now: datetime) -> None:
        """Keep the refusal for the history of its task, unless too many tasks were named in this minute."""
        if self._minute is None or _passed(self._minute, now):
            self._minute = now
            self._admitted.clear()
        if (claims.task_id, reason, claims.submission) not in self._waiting:
            unverified = reason in UNVERIFIED
            if self._admitted[unverified] >= TASKS_A_MINUTE:
                return
            self._admitted[unverified] += 1
        self._fold(
            Refusal(
                task_id=claims.task_id,
                reason=reason,
                submission=claims.submission,
                count=1,
                first_at=now,
                last_at=now,
            )
        )

    def _fold(self, refusal: Refusal) -> None:
        key = (refusal.task_id, refusal.reason, refusal.submission)
        before = self._waiting.get(key)
        if before:
            self._waiting[key] = replace(before, count=before.count + refusal.count, last_at=refusal.last_at)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting[key] = refusal


def _passed(since: datetime, now: datetime) -> bool:
    """Return whether PERIOD has passed; also after a clock that moved backwards."""
    return not timedelta(0) <= now - since < PERIOD
