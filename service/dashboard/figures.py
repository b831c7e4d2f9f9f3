"""The figures of the metrics for pages: counted in the background, so that no page waits for them."""

import asyncio
import time
from dataclasses import dataclass, field

from service.domain.errors import BoomerangError
from service.domain.ports.health import Gauges, Health
from service.domain.ports.signals import Clock

MAX_AGE = 10.0
"""Seconds after which the figures are counted again."""

WAIT = 0.05
"""Seconds after the begin of a count in which pages wait for it: with few tasks it takes less, and with many pages show
the last one."""


@dataclass(kw_only=True)
class LatestFigures:
    """Keeps the last figures; `each` is BUDGET_EACH."""

    health: Health
    clock: Clock
    each: float
    _last: Gauges | None = None
    _counted_at: float = -MAX_AGE
    _began_at: float = 0.0
    _counting: asyncio.Task[None] | None = field(default=None, repr=False)

    async def latest(self) -> Gauges | None:
        """Return the last figures, None before the first count has ended."""
        now = time.monotonic()
        if now - self._counted_at >= MAX_AGE and (self._counting is None or self._counting.done()):
            self._counting = asyncio.create_task(self._count(), name="count figures")
            self._began_at = now
        if self._counting is not None and not self._counting.done() and (left := self._began_at + WAIT - now) > 0:
            await asyncio.wait({self._counting}, timeout=left)
        return self._last

    async def _count(self) -> None:
        try:
            self._last = await self.health.gauges(self.clock.now(), each=self.each)
        except BoomerangError:
            return  # the page shows the last figures
        self._counted_at = time.monotonic()
