"""What queued tasks wait for, computed when a task is shown: a stored note on each waiting task would cost a write."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.fast_copy import replace_fields
from service.domain.ports.provider import RateLimitedProvider
from service.domain.ports.queues import LimitUsageReader
from service.domain.ports.signals import Clock
from service.domain.submission_limits import Limits, LimitUsage
from service.domain.task import Status, Task
from service.domain.task_view import rfc3339

QUIET_TIME = timedelta(seconds=5)
"""How long a due task waits before its note says so although this process has free requests: another one submits."""

NO_FREE_REQUEST = "UPSTREAM_RATE or UPSTREAM_CONCURRENCY, which limit the requests to the provider, is reached"

USAGE_AGE = timedelta(seconds=2)
"""How long the counted usage of the limits is shown. Counting a day's costs takes long, and clients ask often."""


@dataclass(frozen=True, kw_only=True)
class CountedUsage:
    """The usage of the limits at a time, with the prices of `buckets`."""

    at: datetime
    buckets: frozenset[str]
    used: LimitUsage

    def fresh(self, now: datetime) -> bool:
        """Return whether it can still be shown; not after a clock that moved backwards."""
        return timedelta() <= now - self.at < USAGE_AGE


@dataclass(kw_only=True, slots=True, eq=False)
class WaitingNotes:
    """Adds notes to queued tasks; tasks of any other status keep theirs."""

    reader: LimitUsageReader
    provider: RateLimitedProvider
    clock: Clock
    limits: Limits
    _counted: CountedUsage | None = field(init=False, default=None)
    _counting: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    async def noted(self, tasks: Sequence[Task]) -> list[Task]:
        """Return `tasks`, the queued ones with a note that says what they wait for.

        A note that is stored stays while its task is not due: it waits for its next attempt.
        """
        now = self.clock.now()
        waiting = {
            task.id: task for task in tasks if task.status is Status.QUEUED and task.due_at and task.due_at <= now
        }
        if not waiting:
            return list(tasks)
        used = await self._usage(frozenset(task.bucket for task in waiting.values()))
        return [self._noted(task, used) if task.id in waiting else task for task in tasks]

    async def _usage(self, buckets: frozenset[str]) -> LimitUsage:
        """Return the usage of the limits, counted once for all requests that come at the same time."""
        async with self._counting:
            now = self.clock.now()
            counted = self._counted if self._counted and self._counted.fresh(now) else None
            if counted is None or not buckets <= counted.buckets:
                buckets |= counted.buckets if counted else frozenset()
                used = await self.reader.limit_usage(now=now, limits=self.limits, buckets=buckets)
                counted = self._counted = CountedUsage(at=now, buckets=buckets, used=used)
            return counted.used

    def _noted(self, task: Task, used: LimitUsage) -> Task:
        reached = used.note(task.client, task.bucket)
        return replace_fields(task, note=reached or task.note or self._without_limit(task))

    def _without_limit(self, task: Task) -> str | None:
        """Return the note of a task that waits for no limit of submissions but for a free request to the provider."""
        now = self.clock.now()
        if self.provider.pause:
            return f"waits: the provider asked for a pause until {rfc3339(now + self.provider.pause)}"
        if self.provider.ready() < 1:
            return f"waits: {NO_FREE_REQUEST}"
        if task.due_at is None or now < task.due_at + QUIET_TIME:
            return None
        return f"waits: {NO_FREE_REQUEST}, or the provider asked for a pause, or no worker runs"
