"""Notices that the machine's clock was put back, which would keep all that is due waiting for as long."""

import asyncio
from datetime import datetime, timedelta

import structlog

from service.domain.ports.queues import ClockJumpRepair
from service.domain.ports.signals import Clock

log = structlog.get_logger("boomerang.clock")

PUT_BACK = timedelta(seconds=30)
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
        now, steady = self._clock.now(), asyncio.get_running_loop().time()
        put_back = self._put_back(now, steady)
        recalled = 0
        if put_back > PUT_BACK:
            recalled = await self._store.repair(now=now, until=now + self._lease)
            log.warning("the clock was put back", seconds=round(put_back.total_seconds()), recalled=recalled)
        self._last = (now, steady)
        return recalled

    def _put_back(self, now: datetime, steady: float) -> timedelta:
        if self._last is None:
            return timedelta()
        then, steady_then = self._last
        return timedelta(seconds=steady - steady_then) - (now - then)
