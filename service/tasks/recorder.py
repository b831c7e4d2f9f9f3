"""The one door: everything the upstream ever says about a task, and all that follows from it, is written here.

One transaction for a batch of facts: inbox rows, tasks advanced by the pure table, events, and one delivery for each
handler that wants them. Each caller is answered after the commit that holds its fact.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from service.concurrency.batcher import Batcher, commit_or_bisect
from service.domain.errors import OperatorError, StoreUnavailable
from service.domain.event_routing import Subscription
from service.domain.fast_copy import replace_fields
from service.domain.poll_planner import PollPlanner
from service.domain.ports.immediate_claims import DeliverySlots
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import InboxEntry, UnitOfWorkFactory
from service.domain.task_update import TaskUpdate, UpdateResult
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.update_batch import UpdateBatch

log = structlog.get_logger("boomerang.record")

BATCH = 256
"""Entries in one commit at most."""

RETRY_PAUSE = 1.0
"""Seconds between tries while the store is unavailable."""


class Recorder:
    """Writes entries, many to a commit. `new_id` makes ids that sort by time; `subscriptions` say who wants what."""

    def __init__(
        self,
        units_of_work: UnitOfWorkFactory,
        *,
        clock: Clock,
        planner: PollPlanner,
        slots: DeliverySlots,
        immediate_polls: ImmediatePolls,
        subscriptions: Sequence[Subscription],
        new_id: Callable[[], str],
    ) -> None:
        self._units_of_work = units_of_work
        self._clock = clock
        self._planner = planner
        self._slots = slots
        self._immediate_polls = immediate_polls
        self._subscriptions = subscriptions
        self._new_id = new_id
        self._batcher = Batcher(partial(commit_or_bisect, self._commit), most=BATCH)

    async def add(self, entry: TaskUpdate) -> UpdateResult:
        """Record `entry` durably; raises StoreUnavailable when that cannot be done now."""
        outcome = await self._batcher.add(entry)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def add_with_retry(self, entry: TaskUpdate) -> UpdateResult:
        """Record what cannot be learned twice: try again every BREATH seconds while the store is unavailable."""
        while True:
            try:
                return await self.add(entry)
            except StoreUnavailable as error:
                log.warning("not recorded yet", task=entry.task_id, why=str(error))
            await asyncio.sleep(RETRY_PAUSE)

    async def flush(self) -> None:
        """Return once nothing waits to be recorded, though nobody may wait for it any more."""
        await self._batcher.flush()

    async def process_inbox(self, meaning: Callable[[InboxEntry], TaskUpdate], *, most: int = BATCH) -> int:
        """Record up to `most` callbacks that were kept unread, oldest first; return how many.

        `meaning` says what there is to record about one. One that cannot be recorded for what is in it is set aside as
        `broken`, so that it holds up no other, and the upstream is asked about its task. Raises OperatorError or
        MemoryError, which are no fault of theirs: nothing is set aside then.
        """
        rows: list[InboxEntry] = []
        try:
            async with self._batch() as batch:
                rows += await batch.unit_of_work.unread(most)
                results = await batch.write([meaning(row) for row in rows], from_inbox=True)
                await batch.unit_of_work.read([_read(row, result) for row, result in zip(rows, results, strict=True)])
        except Exception as error:
            if isinstance(error, OperatorError | MemoryError) or not rows:
                raise
            if len(rows) > 1:
                return await self.process_inbox(meaning, most=len(rows) // 2)
            await self._quarantine(rows[0], error)
        return len(rows)

    async def _quarantine(self, row: InboxEntry, error: Exception) -> None:
        log.error("callback set aside", task=row.task_id, error=type(error).__name__)
        hinted = await self._batcher.add(TaskUpdate.unreadable_callback(row.task_id, None))
        if isinstance(hinted, OperatorError | MemoryError):
            raise hinted
        async with self._units_of_work.transaction() as transaction:
            await transaction.read([replace_fields(row, verdict="broken")])

    async def _commit(self, updates: Sequence[TaskUpdate]) -> list[UpdateResult]:
        async with self._batch() as batch:
            return await batch.write(updates)

    @asynccontextmanager
    async def _batch(self) -> AsyncIterator[UpdateBatch]:
        """Begin a transaction and yield its batch; what is claimed by it is started once it is committed."""
        with self._slots.reservations() as reservations, self._immediate_polls.reservations() as immediate_polls:
            async with self._units_of_work.transaction() as unit_of_work:
                yield UpdateBatch(
                    unit_of_work=unit_of_work,
                    planner=self._planner,
                    clock=self._clock,
                    reservations=reservations,
                    immediate_polls=immediate_polls,
                    subscriptions=self._subscriptions,
                    new_id=self._new_id,
                )


def _read(row: InboxEntry, recorded: UpdateResult) -> InboxEntry:
    return replace_fields(row, verdict="accepted" if recorded.task else "quarantined")
