"""Detect that the system clock moved: backwards would delay all due work, forwards makes everything look old."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from service.domain.ports.queues import ClockJumpRepair
from service.domain.ports.signals import Clock

log = structlog.get_logger("boomerang.runtime")

IGNORED_JUMP = timedelta(seconds=30)
"""A clock that moves back by no more than this delays work by as much, and nothing else."""


FORWARD_JUMP = timedelta(hours=1)
"""How far the clock must have moved forward for its time to be doubted."""

DOUBTED_FOR = 3600.0
"""Seconds for which it is doubted: a wrong clock is set right by then, and that of a machine that slept is right."""

TRUSTED_FOR = 3600.0
"""Seconds after that in which a further move begins no doubt.

A machine that often sleeps would else never delete anything and end no task.
"""


@dataclass(slots=True)
class ClockJumpDetector:
    """Compares the system clock with the monotonic time of the event loop. `lease` is the duration of a lease.

    A process sees the jumps while it runs: one before its start is not seen.
    """

    store: ClockJumpRepair
    clock: Clock = field(kw_only=True)
    lease: timedelta = field(kw_only=True)
    _last: tuple[datetime, float] | None = field(init=False, default=None)
    _forward_at: float | None = field(init=False, default=None)

    async def check(self) -> int:
        """Reschedule waiting rows if the system clock moved backwards since the last check; return how many.

        Polls and retries then run early once, which is harmless. Raises StoreUnavailable; the next check detects the
        same jump.
        """
        now, monotonic, moved_back = self._measure()
        rescheduled = 0
        if moved_back > IGNORED_JUMP:
            rescheduled = await self.store.repair(now=now, until=now + self.lease)
            log.warning(
                "system clock moved backwards", seconds=round(moved_back.total_seconds()), rescheduled=rescheduled
            )
        if moved_back > FORWARD_JUMP:
            self._forward_at = None  # it was set right
        self._last = (now, monotonic)
        return rescheduled

    def doubted(self) -> bool:
        """Return whether the clock moved forward lately: then nothing is deleted, and no task ends, for its age."""
        self._measure()
        since = self._forward_at
        return since is not None and asyncio.get_running_loop().time() - since < DOUBTED_FOR

    def _measure(self) -> tuple[datetime, float, timedelta]:
        """Return both times, and how far the clock moved back since the last ones; note a jump forward."""
        now, monotonic = self.clock.now(), asyncio.get_running_loop().time()
        then, monotonic_then = self._last or (now, monotonic)
        moved_back = timedelta(seconds=monotonic - monotonic_then) - (now - then)
        if -moved_back > FORWARD_JUMP:
            if self._forward_at is None or monotonic - self._forward_at >= DOUBTED_FOR + TRUSTED_FOR:
                self._forward_at = monotonic
            log.warning("system clock moved forwards", seconds=round(-moved_back.total_seconds()))
        if -moved_back > FORWARD_JUMP or self._last is None:
            self._last = (now, monotonic)
        return now, monotonic, moved_back
