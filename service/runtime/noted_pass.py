"""Notes in the database when a single pass was last made: `boomerang doctor` reports where no cron job makes any."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from service.api.ports import SinglePassRunner
from service.domain.errors import StoreUnavailable
from service.domain.ports.process_registry import LastRuns
from service.domain.ports.signals import Clock
from service.storage.inspection import RECONCILE

log = structlog.get_logger("boomerang.runtime")


@dataclass(frozen=True, kw_only=True)
class NotedPass:
    """Makes the single passes of `inner`, and notes each."""

    inner: SinglePassRunner
    runs: LastRuns
    clock: Clock

    async def reconcile_once(self, *, start_within: timedelta | None = None) -> Mapping[str, int]:
        """Make a single pass."""
        done = await self.inner.reconcile_once(start_within=start_within)
        await note_pass(self.runs, self.clock)
        return done


async def note_pass(runs: LastRuns, clock: Clock) -> None:
    """Note that a single pass was made now; a database that cannot do it is logged."""
    try:
        await runs.note(RECONCILE, clock.now())
    except StoreUnavailable as error:
        log.warning("failed to note the single pass", error=str(error))
