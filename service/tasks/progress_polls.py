"""Polls of tasks whose progress somebody watches: they take only requests that nothing else needs."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.ports.provider import RateLimitedProvider
from service.domain.ports.queues import WatchedTasks
from service.domain.ports.signals import Clock
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter

PRUNE_EVERY = timedelta(minutes=1)
"""How often the rows of tasks that nobody watches any more are deleted."""


@dataclass(kw_only=True, slots=True, eq=False)
class ProgressPolls:
    """Polls each watched task every `every`, more rarely if there are too many for the rest of the rate.

    Nothing is polled while submissions or due polls wait for a request.
    """

    watched: WatchedTasks
    submitter: Submitter
    poller: Poller
    provider: RateLimitedProvider
    clock: Clock
    every: timedelta
    _prune_at: datetime | None = field(init=False, default=None)

    async def run_once(self) -> int:
        """Start polls of watched tasks; return how many."""
        return len(await self.start_due())

    async def start_due(self) -> list[asyncio.Task[None]]:
        """Start polls of watched tasks; return their asyncio tasks."""
        now = self.clock.now()
        if self._prune_at is None or not now < self._prune_at <= now + PRUNE_EVERY:
            self._prune_at = now + PRUNE_EVERY
            await self.watched.prune(now=now)
        limit = min(self.provider.spare(), self.poller.spare())
        if limit < 1 or self.submitter.behind or self.poller.behind:
            return []
        until = now + self.poller.config.lease
        return await self.poller.start_watched(
            await self.watched.claim(now=now, until=until, limit=limit, every=self.every)
        )
