"""Deletes what handlers no longer need in the database: expired values, and jobs that failed long ago."""

from dataclasses import dataclass
from datetime import timedelta

from service.domain.ports.handler_store import HandlerJobStore, HandlerStateStore
from service.domain.ports.signals import Clock


@dataclass(frozen=True, kw_only=True)
class HandlerRetention:
    """Deletes expired values at once, and failed jobs after `retention`."""

    state: HandlerStateStore
    jobs: HandlerJobStore
    clock: Clock
    retention: timedelta

    async def prune(self) -> int:
        """Delete them; return how many rows."""
        now = self.clock.now()
        return await self.state.prune(now=now) + await self.jobs.prune(before=now - self.retention)
