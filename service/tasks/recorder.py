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
from service.domain.ports.unit_of_work import (
    InboxEntry,
    UnitOfWork,
    UnitOfWorkFactory,
)
from service.domain.task import Task, TaskId, UpstreamId
from service.domain.task_update import (
    Hint,
    TaskUpdate,
    UpdateResult,
    conflicting_id,
    guesses,
    without_conflicting_id,
)
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
        self._batcher = Batcher(partial(commit_or_bisect, self._commit), max_items=BATCH)

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
            async with self._transaction() as (transaction, page):
                rows += await transaction.unread(most)
                recorded = await self._write(transaction, page, [meaning(row) for row in rows], kept=True)
                await transaction.read([_read(row, one) for row, one in zip(rows, recorded, strict=True)])
        except Exception as error:
            if isinstance(error, OperatorError | MemoryError) or not rows:
                raise
            if len(rows) > 1:
                return await self.process_inbox(meaning, most=len(rows) // 2)
            await self._quarantine(rows[0], error)
        return len(rows)

    async def _quarantine(self, row: InboxEntry, error: Exception) -> None:
        log.error("callback set aside", task=row.task_id, error=type(error).__name__)
        hinted = await self._batcher.add(TaskUpdate(task_id=row.task_id, hint=Hint(ended=False)))
        if isinstance(hinted, OperatorError | MemoryError):
            raise hinted
        async with self._units_of_work.transaction() as transaction:
            await transaction.read([replace_fields(row, verdict="broken")])

    async def _commit(self, entries: Sequence[TaskUpdate]) -> list[UpdateResult]:
        async with self._transaction() as (transaction, page):
            return await self._write(transaction, page, entries)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[tuple[UnitOfWork, "UpdateBatch"]]:
        """Begin a transaction and a blank page; what is born in hand on it is started once it is committed."""
        with self._slots.reservations() as reservations, self._immediate_polls.reservations() as immediate_polls:
            async with self._units_of_work.transaction() as transaction:
                yield (
                    transaction,
                    UpdateBatch(
                        planner=self._planner,
                        reservations=reservations,
                        immediate_polls=immediate_polls,
                        subscriptions=self._subscriptions,
                        new_id=self._new_id,
                        now=self._clock.now(),
                    ),
                )

    async def _write(
        self, transaction: UnitOfWork, page: "UpdateBatch", entries: Sequence[TaskUpdate], *, kept: bool = False
    ) -> list[UpdateResult]:
        """Write `entries`; those that were `kept` are in the inbox already."""
        page.now = self._clock.now()
        page.tasks = tasks = await transaction.lock({entry.task_id for entry in entries})
        entries = await _each_its_own(transaction, entries, tasks)
        words = ["new"] * len(entries) if kept else await _admit(transaction, entries, tasks)
        with_unread_callbacks = set() if kept else await _with_unread_callbacks(transaction, entries)
        recorded = [
            page.apply_after_unread_callback(entry)
            if entry.task_id in with_unread_callbacks and guesses(entry)
            else page.apply(entry, word)
            for entry, word in zip(entries, words, strict=True)
        ]
        await page.flush(transaction)
        return recorded


async def _admit(
    transaction: UnitOfWork, entries: Sequence[TaskUpdate], tasks: dict[TaskId, Task]
) -> Sequence[str | None]:
    rows = [_quarantined(entry.inbox, tasks) for entry in entries if entry.inbox]
    words = iter(await transaction.admit(rows) if rows else [])
    return [next(words) if entry.inbox else None for entry in entries]


async def _with_unread_callbacks(transaction: UnitOfWork, entries: Sequence[TaskUpdate]) -> set[TaskId]:
    """Return the tasks that unread callbacks speak of, among those that somebody wants to give up or send again."""
    guessed = {entry.task_id for entry in entries if guesses(entry)}
    return await transaction.with_unread_callbacks(guessed) if guessed else set()


async def _each_its_own(
    transaction: UnitOfWork, entries: Sequence[TaskUpdate], tasks: dict[TaskId, Task]
) -> list[TaskUpdate]:
    """Take out of `entries` the ids that another task holds already, in the store or earlier in this batch."""
    strange = [conflicting_id(entry, tasks.get(entry.task_id)) for entry in entries]
    wanted = {found for found in strange if found}
    holders: dict[UpstreamId, TaskId] = await transaction.holders(wanted) if wanted else {}
    kept = []
    for entry, told in zip(entries, strange, strict=True):
        if told and entry.fact and entry.fact.upstream_id == told:
            holders.setdefault(told, entry.task_id)
        anothers = told is not None and holders.get(told, entry.task_id) != entry.task_id
        kept.append(without_conflicting_id(entry) if anothers else entry)
    return kept


def _quarantined(row: InboxEntry, tasks: dict[TaskId, Task]) -> InboxEntry:
    return row if row.task_id in tasks else replace_fields(row, verdict="quarantined")


def _read(row: InboxEntry, recorded: UpdateResult) -> InboxEntry:
    return replace_fields(row, verdict="accepted" if recorded.task else "quarantined")
