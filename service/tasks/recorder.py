"""The single writer: every update of a task, and all that follows from it, is written here.

One transaction holds a batch of updates: inbox rows, tasks, events, and one delivery for each handler that wants an
event. Each caller gets its result after the commit.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import structlog

from service.concurrency.batcher import Batcher, commit_or_bisect
from service.domain.errors import OperatorError, StoreUnavailable
from service.domain.event_routing import Subscription
from service.domain.fast_copy import replace_fields
from service.domain.poll_planner import PollPlanner
from service.domain.ports.immediate_claims import DeliverySlots
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import (
    InboxEntry,
    KnownEntries,
    UnitOfWorkFactory,
    unknown,
)
from service.domain.prices import Pricing
from service.domain.task_update import TaskUpdate, UpdateResult
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.task_times import TaskTimes
from service.tasks.update_batch import UpdateBatch

log = structlog.get_logger("boomerang.tasks")

BATCH = 256
"""Maximum number of updates in one commit."""

RETRY_PAUSE = 1.0
"""Seconds between attempts while the store is unavailable."""


@dataclass(kw_only=True, slots=True, eq=False)
class Recorder:
    """Records updates, many in one commit.

    `new_id` returns ids that sort by time. `subscriptions` are the handlers with their events. `cost_faults` counts
    reported costs that cannot be right, by their fault; `task_times` are the times of the tasks recorded here.
    """

    units_of_work: UnitOfWorkFactory
    clock: Clock
    planner: PollPlanner
    slots: DeliverySlots
    immediate_polls: ImmediatePolls
    subscriptions: Sequence[Subscription]
    new_id: Callable[[], str]
    pricing: Pricing = field(default_factory=Pricing)
    cost_faults: Counter[str] = field(init=False, default_factory=Counter)
    task_times: TaskTimes = field(init=False, default_factory=TaskTimes)
    _batcher: Batcher[TaskUpdate, UpdateResult | Exception] = field(init=False)

    def __post_init__(self) -> None:
        self._batcher = Batcher(partial(commit_or_bisect, self._commit), max_items=BATCH)

    async def add(self, update: TaskUpdate, *, more_soon: bool = False) -> UpdateResult:
        """Record `update` durably; raises StoreUnavailable if that is not possible now.

        With `more_soon`, other updates are about to be added, and share its commit.
        """
        result = await self._batcher.add(update, more_soon=more_soon)
        if isinstance(result, Exception):
            raise result
        return result

    async def add_with_retry(self, update: TaskUpdate, *, more_soon: bool = False) -> UpdateResult:
        """Record an update that cannot be repeated: retry every RETRY_PAUSE seconds while the store is unavailable."""
        while True:
            try:
                return await self.add(update, more_soon=more_soon)
            except StoreUnavailable as error:
                log.warning("record failed, retrying", task=update.task_id, error=str(error))
            await asyncio.sleep(RETRY_PAUSE)

    async def flush(self) -> None:
        """Return once no update waits to be recorded."""
        await self._batcher.flush()

    async def process_inbox(
        self, to_update: Callable[[InboxEntry], TaskUpdate], *, limit: int = BATCH, known: KnownEntries = unknown
    ) -> int:
        """Record up to `limit` unread callbacks of the inbox, oldest first; return how many.

        `to_update` returns the update for one of them, `known` those that are in memory. A callback whose content makes
        recording fail gets the verdict `broken`, so that it does not block the others, and its task is polled. Raises
        OperatorError or MemoryError, which no callback causes; all callbacks stay unread then.
        """
        rows: list[InboxEntry] = []
        results: list[UpdateResult] = []
        try:
            async with self._batch() as batch:
                rows += await batch.unit_of_work.unread(limit, known, now=self.clock.now())
                results = await batch.write([to_update(row) for row in rows], from_inbox=True)
                verdicts = ["accepted" if result.task else "quarantined" for result in results]
                pairs = zip(rows, verdicts, strict=True)
                await batch.unit_of_work.read([replace_fields(row, verdict=verdict) for row, verdict in pairs])
        except Exception as error:
            if isinstance(error, OperatorError | MemoryError) or not rows:
                raise
            if len(rows) > 1:
                return await self.process_inbox(to_update, limit=len(rows) // 2, known=known)
            await self._quarantine(rows[0], error)
        else:
            self.task_times.observe(results)
        return len(rows)

    async def _quarantine(self, row: InboxEntry, error: Exception) -> None:
        log.error("callback quarantined", task=row.task_id, error=type(error).__name__)
        result = await self._batcher.add(TaskUpdate.unreadable_callback(row.task_id, None))
        if isinstance(result, OperatorError | MemoryError):
            raise result
        async with self.units_of_work.transaction() as unit_of_work:
            await unit_of_work.read([replace_fields(row, verdict="broken")])

    async def _commit(self, updates: Sequence[TaskUpdate]) -> list[UpdateResult]:
        async with self._batch() as batch:
            results = await batch.write(updates)
        self.task_times.observe(results)
        return results

    @asynccontextmanager
    async def _batch(self) -> AsyncIterator[UpdateBatch]:
        """Begin a transaction and yield its batch; what the batch leases starts once it is committed."""
        with ExitStack() as leases:
            async with self.units_of_work.transaction() as unit_of_work:
                yield UpdateBatch(
                    unit_of_work=unit_of_work,
                    planner=self.planner,
                    clock=self.clock,
                    slots=self.slots,
                    immediate_polls=self.immediate_polls,
                    leases=leases,
                    subscriptions=self.subscriptions,
                    new_id=self.new_id,
                    pricing=self.pricing,
                    cost_faults=self.cost_faults,
                )
