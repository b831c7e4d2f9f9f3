"""Notices that the machine's clock was put back, which would keep all that is due waiting for as long."""

import asyncio
from datetime import datetime, timedelta

import structlog

from service.domain.ports.queues import ClockJumpRepair
from service.domain.ports.signals import Clock

log = structlog.get_logger("boomerang.clock")

IGNORED_JUMP = timedelta(seconds=30)
"""A clock that is put back by less than this only delays everything by as much."""


class ClockJumpDetector:
    """Compares the clock with the event loop's time, which no one puts back. `lease` is how long a claim lives."""

    def __init__(self, store: ClockJumpRepair, *, clock: Clock, lease: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._last: tuple[datetime, float] | None = None

    async def check(self) -> int:
        """Make due what waits, if the clock was put back since the last look; return how many rows that were.

        Questions and retries then come early, once, which harms nothing. Raises StoreUnavailable: the next look sees
        the same.
        """
        now, monotonic = self._clock.now(), asyncio.get_running_loop().time()
        moved_back = self._moved_back(now, monotonic)
        rescheduled = 0
        if moved_back > IGNORED_JUMP:
            rescheduled = await self._store.clock_jump_repair(now=now, until=now + self._lease)
            log.warning("the clock was put back", seconds=round(moved_back.total_seconds()), rescheduled=rescheduled)
        self._last = (now, monotonic)
        return rescheduled

    def _moved_back(self, now: datetime, monotonic: float) -> timedelta:
        if self._last is None:
            return timedelta()
        then, steady_then = self._last
        return timedelta(seconds=monotonic - steady_then) - (now - then)
