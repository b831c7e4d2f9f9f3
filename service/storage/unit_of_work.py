"""The ledger: facts and their consequences, many of them in one transaction."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate

from sqlalchemy import Integer, Row, bindparam, func, select

from service.domain.ports.unit_of_work import (
    DeliveryClaim,
    DeliveryRow,
    EventRow,
    InboxEntry,
    PollRow,
    RunTime,
    UnitOfWork,
)
from service.domain.task import Task, TaskId, UpstreamId
from service.storage.bulk_writes import insert_many, update_many
from service.storage.database import Database, Write
from service.storage.dialects import insert
from service.storage.event_writes import append_deliveries, append_events
from service.storage.in_list import in_list
from service.storage.inbox import STORED_DIGESTS
from service.storage.tables import UNREAD, inbox, polls, run_times, tasks
from service.storage.task_rows import TASK_COLUMNS, Values, changed_task_values, task_from_row

MAX_UNREAD_BYTES = 8 * 1024 * 1024
"""Bytes of unread callbacks in one transaction: they are in memory together, and parsed in one go."""


# The statements of every commit, made once.
TASKS_BY_ID = select(*TASK_COLUMNS).where(in_list(tasks.c.id, "ids")).order_by(tasks.c.id).with_for_update()
UNREAD_SIZES = (
    select(inbox.c.digest, func.length(inbox.c.body))
    .where(UNREAD)
    .order_by(inbox.c.received_at)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
)
CALLBACKS_BY_DIGEST = select(inbox).where(in_list(inbox.c.digest, "digests")).order_by(inbox.c.received_at)
HAS_UNREAD_CALLBACKS = select(inbox.c.task_id).where(UNREAD, in_list(inbox.c.task_id, "ids"))
TASKS_BY_UPSTREAM_ID = select(tasks.c.upstream_id, tasks.c.id).where(in_list(tasks.c.upstream_id, "ids"))


class SqlUnitOfWorkFactory:
    """Implements `Ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        """Begin a write transaction; raises StoreUnavailable when the database cannot take it."""
        async with self._database.writing() as write:
            yield SqlUnitOfWork(write)


class SqlUnitOfWork:
    """Implements `UnitOfWork`. Call `lock` before `append`: events are numbered one transaction at a time."""

    def __init__(self, write: Write) -> None:
        self._connection = write.connection
        self._topics = write.topics
        self._locked: dict[TaskId, Task] = {}

    async def lock(self, ids: Collection[TaskId]) -> dict[TaskId, Task]:
        """Return the known ones of `ids`, locked until the end of the transaction, in id order."""
        found: dict[TaskId, Task] = {}
        if ids:
            rows = await self._connection.execute(TASKS_BY_ID, {"ids": set(ids)})
            found = {row["id"]: task_from_row(row) for row in rows.mappings()}
        self._locked |= found
        return found

    async def admit(self, entries: Sequence[InboxEntry]) -> list[str]:
        """Store those entries that are new; return a word for each: `new`, `repeated`, or `nonce_reused`."""
        if not entries:
            return []
        fresh = await self._store_new(entries)
        missed = {entry.digest for entry in entries} - fresh
        known = await self._known(missed)
        return [_word(entry, fresh, known) for entry in entries]

    async def _store_new(self, entries: Sequence[InboxEntry]) -> set[str]:
        statement = insert(self._connection, inbox).on_conflict_do_nothing().returning(inbox.c.digest)
        rows = [vars(entry) for entry in sorted(entries, key=lambda entry: entry.digest)]  # one order: no deadlock
        return set((await self._connection.execute(statement, rows)).scalars())

    async def _known(self, digests: Collection[str]) -> set[str]:
        return (
            set((await self._connection.execute(STORED_DIGESTS, {"digests": digests})).scalars()) if digests else set()
        )

    async def unread(self, limit: int) -> list[InboxEntry]:
        """Return up to `limit` unread callbacks, oldest first, that no other transaction has in hand."""
        sized = await self._connection.execute(UNREAD_SIZES, {"most": limit})
        rows = await self._connection.execute(CALLBACKS_BY_DIGEST, {"digests": _in_one_go(sized.all())})
        return [InboxEntry(**row) for row in rows.mappings()]

    async def with_unread_callbacks(self, ids: Collection[TaskId]) -> set[TaskId]:
        """Return those of `ids` about which an unread callback is kept."""
        return set((await self._connection.execute(HAS_UNREAD_CALLBACKS, {"ids": set(ids)})).scalars())

    async def read(self, entries: Sequence[InboxEntry]) -> None:
        """Give unread callbacks the verdict that each of `entries` has."""
        rows = [{"digest": entry.digest, "verdict": entry.verdict} for entry in entries]
        await update_many(self._connection, inbox, rows)

    async def holders(self, ids: Collection[UpstreamId]) -> dict[UpstreamId, TaskId]:
        """Return which task is known to the upstream by each of `ids`, where one is."""
        return {
            row.upstream_id: row.id for row in await self._connection.execute(TASKS_BY_UPSTREAM_ID, {"ids": set(ids)})
        }

    async def save(self, moved: Collection[Task]) -> None:
        """Write what has changed of `moved` since they were locked in this transaction, like changes together."""
        await self.lock({task.id for task in moved} - self._locked.keys())
        alike: dict[tuple[str, ...], list[Values]] = defaultdict(list)
        for task in moved:
            changed = changed_task_values(self._locked[task.id], task)
            alike[tuple(changed)].append(changed | {"id": task.id})
        for names, rows in alike.items():
            if names:
                await update_many(self._connection, tasks, rows)
        self._locked |= {task.id: task for task in moved}

    async def append(self, events: Sequence[EventRow], deliveries: Sequence[DeliveryRow]) -> list[DeliveryClaim]:
        """Store events, in this order, and their deliveries; return claims on those that are born in hand."""
        if events:
            await append_events(self._connection, events)
        if not deliveries:
            return []
        return await append_deliveries(self._connection, deliveries, {event.id: event for event in events})

    async def note_polls(self, asked: Sequence[PollRow]) -> None:
        """Store polls for the task's history."""
        await insert_many(self._connection, polls, [vars(poll) for poll in asked])

    async def learn(self, samples: Sequence[RunTime]) -> None:
        """Store run times from which polls are learned."""
        await insert_many(self._connection, run_times, [vars(sample) for sample in samples])

    def notify(self, topics: Iterable[str]) -> None:
        """Ring `topics` in every process once the transaction is committed."""
        self._topics.update(topics)


def _in_one_go(sized: Iterable[Row[str, int]]) -> list[str]:
    """Return the digests that come first in `sized`, at least one, as far as their bodies are READ_AT_ONCE together."""
    totals = accumulate(sized, lambda before, one: (one[0], before[1] + one[1]))
    return [digest for place, (digest, total) in enumerate(totals) if not place or total <= MAX_UNREAD_BYTES]


def _word(entry: InboxEntry, fresh: set[str], known: set[str]) -> str:
    if entry.digest in fresh:
        fresh.discard(entry.digest)
        known.add(entry.digest)
        return "new"
    return "repeated" if entry.digest in known else "nonce_reused"
