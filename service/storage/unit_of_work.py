"""Units of work: one write transaction over inbox, tasks, events and deliveries."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from operator import attrgetter

from sqlalchemy import Integer, Row, bindparam, func, select, update

from service.domain.endpoint import EndpointMatch
from service.domain.operator_event import OperatorEventType, hour_of
from service.domain.ports.operator_events import OPERATOR_EVENTS
from service.domain.ports.unit_of_work import (
    DeliveryRow,
    EventRow,
    InboxEntry,
    KnownEntries,
    NewClaims,
    PollRow,
    RunTime,
    UnitOfWork,
    no_claims,
    unknown,
)
from service.domain.task import EventType, Task, TaskId, UpstreamId
from service.domain.task_wait import WaitRow
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import insert_and_return, insert_many, update_many
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.deferred_reads import defer_query
from service.storage.endpoint_store import enabled_endpoints, endpoints_of_tasks, keep_routes
from service.storage.inbox import OLDEST_UNREAD, STORED_DIGESTS, TASK_IS_FINAL
from service.storage.new_deliveries import append_deliveries, append_events
from service.storage.operator_events import report
from service.storage.scan_starts import ScanStarts
from service.storage.tables import UNREAD, UNREAD_OF_TASK, inbox, polls, run_times, tasks
from service.storage.task_rows import TASK_COLUMNS, Values, changed_task_values, task_from_row
from service.storage.task_waits import add_task_waits
from service.storage.watched_tasks import add_watched

MAX_UNREAD_BYTES = 8 * 1024 * 1024
"""Bytes of unread callbacks in one transaction: all of them are in memory, and are parsed without a pause."""


# Statements of every commit, built once.
TASKS_BY_ID = select(*TASK_COLUMNS).where(in_list(tasks.c.id, "ids")).order_by(tasks.c.id).with_for_update()
UNREAD_SIZES = (
    select(inbox.c.digest, func.length(inbox.c.body))
    .where(UNREAD, inbox.c.received_at >= bindparam("since"))
    .order_by(inbox.c.received_at)
    .limit(bindparam("limit", type_=Integer))
    .with_for_update(skip_locked=True)
)
CALLBACKS_BY_DIGEST = select(inbox).where(in_list(inbox.c.digest, "digests"))
ERASE_CALLBACKS = update(inbox).where(in_list(inbox.c.digest, "digests")).values(body=b"", headers={})
HAS_UNREAD_CALLBACKS = select(inbox.c.task_id).where(UNREAD_OF_TASK, in_list(inbox.c.task_id, "ids"))
TASKS_BY_UPSTREAM_ID = select(tasks.c.upstream_id, tasks.c.id).where(in_list(tasks.c.upstream_id, "ids"))


@dataclass(frozen=True, slots=True)
class SqlUnitOfWorkFactory:
    """Implements `UnitOfWorkFactory`."""

    database: Database
    _starts: ScanStarts = field(init=False, default_factory=lambda: ScanStarts(oldest=OLDEST_UNREAD))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        """Begin a write transaction; raises StoreUnavailable if the database cannot be written."""
        async with self.database.writing() as write:
            yield SqlUnitOfWork(connection=write.connection, topics=write.topics, starts=self._starts)


@dataclass(kw_only=True, slots=True)
class SqlUnitOfWork:
    """Implements `UnitOfWork`. Call `lock` before `append`: only one transaction at a time numbers events.

    `topics` are notified after the commit. Unread callbacks are read from `starts` on.
    """

    connection: AsyncConnection
    topics: set[str]
    starts: ScanStarts
    _locked: dict[TaskId, Task] = field(init=False, default_factory=dict)
    _endpoints: list[EndpointMatch] = field(init=False, default_factory=list)

    async def lock(self, ids: Collection[TaskId]) -> dict[TaskId, Task]:
        """Return the known tasks of `ids`, locked in id order until the end of the transaction."""
        found, _ = await self.receive(ids, [])
        return found

    async def receive(
        self, ids: Collection[TaskId], entries: Sequence[InboxEntry]
    ) -> tuple[dict[TaskId, Task], list[str]]:
        """Lock tasks as `lock` does and store callbacks of them, in one round trip with their endpoints.

        Return the known tasks, and for each of `entries` `new`, `repeated`, `nonce_reused`, or `settled` for one of a
        final task, which is not stored.
        """
        if not ids:
            return {}, []
        await keep_routes(self.connection)
        locked = defer_query(self.connection, TASKS_BY_ID, {"ids": set(ids)})
        rows = [vars(entry) for entry in sorted(entries, key=attrgetter("digest"))]  # one order: no deadlock
        admission = insert_and_return(self.connection, inbox.c.digest, rows, unless=TASK_IS_FINAL)
        self._endpoints += await endpoints_of_tasks(self.connection, ids)
        found = {task.id: task for task in map(task_from_row, locked.all())}
        self._locked |= found
        new = {digest for (digest,) in admission.rows or ()} if admission else set()
        final = {task.id for task in found.values() if task.final}
        known: set[str] = set()
        if others := {entry.digest for entry in entries if entry.task_id not in final} - new:
            known.update((await self.connection.execute(STORED_DIGESTS, {"digests": others})).scalars())
        return found, _verdicts(entries, final, new, known)

    async def unread(self, limit: int, known: KnownEntries = unknown, *, now: datetime) -> list[InboxEntry]:
        """Return up to `limit` unread callbacks, oldest first, that no other transaction has locked.

        Those that are `known` to this process are not read again.
        """
        await keep_routes(self.connection)  # before the locks of callbacks, see ROUTES
        since = await self.starts.find(self.connection, "inbox", {}, now)
        sizes = await self.connection.execute(UNREAD_SIZES, {"since": since, "limit": limit})
        found = {digest: known(digest) for digest in _within_byte_limit(sizes.all())}
        if others := [digest for digest, entry in found.items() if entry is None]:
            rows = await self.connection.execute(CALLBACKS_BY_DIGEST, {"digests": others})
            found.update((row["digest"], InboxEntry(**row)) for row in rows.mappings())
        return [entry for entry in found.values() if entry]

    async def with_unread_callbacks(self, ids: Collection[TaskId]) -> set[TaskId]:
        """Return those of `ids` that have unread callbacks."""
        return set((await self.connection.execute(HAS_UNREAD_CALLBACKS, {"ids": set(ids)})).scalars())

    async def read(self, entries: Sequence[InboxEntry]) -> None:
        """Set the verdict of each of `entries`, which are unread callbacks; erase those of erased tasks.

        One may have been stored while its task was erased.
        """
        rows = [{"digest": entry.digest, "verdict": entry.verdict} for entry in entries]
        await update_many(self.connection, inbox, rows)
        erased = {task.id for task in self._locked.values() if task.erased_at is not None}
        if digests := [entry.digest for entry in entries if entry.task_id in erased]:
            await self.connection.execute(ERASE_CALLBACKS, {"digests": digests})

    async def holders(self, ids: Collection[UpstreamId]) -> dict[UpstreamId, TaskId]:
        """Return the task that has each of `ids` as its provider id, where there is one."""
        rows = await self.connection.execute(TASKS_BY_UPSTREAM_ID, {"ids": set(ids)})
        return {row.upstream_id: row.id for row in rows}

    async def save(self, moved: Collection[Task]) -> None:
        """Update the columns of `moved` that differ since the lock; tasks with the same changed columns go together."""
        await self.lock({task.id for task in moved} - self._locked.keys())
        alike: dict[tuple[str, ...], list[Values]] = defaultdict(list)
        for task in moved:
            changed = changed_task_values(self._locked[task.id], task)
            alike[tuple(changed)].append(changed | {"id": task.id})
            self._locked[task.id] = task
        for names, rows in alike.items():
            if names:
                await update_many(self.connection, tasks, rows)

    async def endpoints_of(self, clients: Set[str]) -> list[EndpointMatch]:
        """Return the enabled endpoints of these clients; those of the clients of locked tasks are known."""
        if clients <= {task.client for task in self._locked.values()}:
            return [each for each in self._endpoints if each.client in clients]
        await keep_routes(self.connection)
        return await enabled_endpoints(self.connection, clients)

    async def append(self, events: Sequence[EventRow], deliveries: Sequence[DeliveryRow]) -> NewClaims:
        """Insert events, in this order, and their deliveries; return what has the claims on them after the commit."""
        if events:
            await append_events(self.connection, events)
            await self._report_overdue(events)
        if not deliveries:
            return no_claims
        return await append_deliveries(self.connection, deliveries, {event.id: event for event in events})

    async def _report_overdue(self, rows: Sequence[EventRow]) -> None:
        """Report tasks that have expired, once an hour for each client."""
        overdue = {row.client: row for row in rows if row.type is EventType.EXPIRED}
        for client, row in overdue.items():
            data, condition = {"client": client, "task": row.task_id}, f"{client} {hour_of(row.at)}"
            if await report(self.connection, OperatorEventType.TASK_OVERDUE, condition, data, at=row.at):
                self.topics.add(OPERATOR_EVENTS)

    async def add_polls(self, rows: Sequence[PollRow]) -> None:
        """Insert polls, for the history of their tasks."""
        await insert_many(self.connection, polls, [vars(row) for row in rows])

    async def add_task_waits(self, rows: Sequence[WaitRow]) -> None:
        """Add what tasks waited for, for their history."""
        await add_task_waits(self.connection, rows)

    async def watch(self, until: Mapping[TaskId, datetime]) -> None:
        """Note that somebody watches the progress of these tasks, each until its time."""
        await add_watched(self.connection, dict(until))
        self.topics.add("watch")

    async def add_run_times(self, samples: Sequence[RunTime]) -> None:
        """Insert run times, from which polls are scheduled."""
        await insert_many(self.connection, run_times, [vars(sample) for sample in samples])

    def notify(self, topics: Iterable[str]) -> None:
        """Notify `topics` in every process after the commit."""
        self.topics.update(topics)


def _verdicts(entries: Sequence[InboxEntry], final: set[TaskId], new: set[str], known: set[str]) -> list[str]:
    """Return the inbox's result for each of `entries`, by the `final` tasks and the digests that are `new` or `known`.

    The same callback may be in `entries` more than once.
    """
    results: list[str] = []
    seen: set[str] = set()
    for entry in entries:
        if entry.task_id in final:
            results.append("settled")
        elif entry.digest in new and entry.digest not in seen:
            results.append("new")
        else:
            results.append("repeated" if entry.digest in known or entry.digest in new else "nonce_reused")
        seen.add(entry.digest)
    return results


def _within_byte_limit(sizes: Iterable[Row[str, int]]) -> list[str]:
    """Return the first digests of `sizes` whose bodies have MAX_UNREAD_BYTES together; at least one digest."""
    totals = accumulate(sizes, lambda before, one: (one[0], before[1] + one[1]))
    return [digest for index, (digest, total) in enumerate(totals) if not index or total <= MAX_UNREAD_BYTES]
