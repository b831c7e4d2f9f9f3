"""The inbox: stores callbacks without recording them."""

from collections.abc import Collection, Sequence
from datetime import datetime
from operator import attrgetter

from sqlalchemy import false, func, literal_column, select

from service.domain.ports.unit_of_work import InboxEntry, InboxUsage
from service.domain.task import TaskId
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.tables import ENDED, UNREAD, inbox, tasks

STORED_DIGESTS = select(inbox.c.digest).where(in_list(inbox.c.digest, "digests"))
USAGE = (
    select(inbox.c.task_id, func.count(), func.sum(func.length(inbox.c.body)))
    .where(in_list(inbox.c.task_id, "ids"))
    .group_by(inbox.c.task_id)
)
IS_FINAL = ENDED & ~tasks.c.guessed | tasks.c.erased_at.is_not(None)
FINAL_TASKS = select(tasks.c.id).where(in_list(tasks.c.id, "ids"), IS_FINAL)
_OF_ITS_TASK = select(IS_FINAL).where(tasks.c.id == literal_column("new.task_id")).scalar_subquery()
TASK_IS_FINAL = func.coalesce(_OF_ITS_TASK, false())
"""Not EXISTS: PostgreSQL would hash its result, and read every task for it."""
OLDEST_UNREAD = select(inbox.c.received_at, inbox.c.task_id).where(UNREAD).order_by(inbox.c.received_at).limit(1)
"""The task makes SQLite take the index of unread callbacks: the one of all callbacks has no task."""


class SqlInbox:
    """Implements `Inbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store_unread(self, entries: Sequence[InboxEntry]) -> set[str]:
        """Store new callbacks durably as `unread`; return the digests whose nonce another callback has used.

        Callbacks of tasks with a terminal status that the provider reported are not stored.
        """
        if not entries:
            return set()
        rows = [vars(entry) for entry in sorted(entries, key=attrgetter("digest"))]  # one order: no deadlock
        await self._database.insert_and_commit(inbox, rows, "inbox", unless=TASK_IS_FINAL)
        signed = {entry.digest: entry.task_id for entry in entries if entry.nonce}
        if not signed:
            return set()
        async with self._database.reading() as connection:
            stored = set((await connection.execute(STORED_DIGESTS, {"digests": signed})).scalars())
            others = {digest: task_id for digest, task_id in signed.items() if digest not in stored}
            if not others:
                return set()
            final = set((await connection.execute(FINAL_TASKS, {"ids": set(others.values())})).scalars())
        return {digest for digest, task_id in others.items() if task_id not in final}

    async def usage(self, ids: Collection[TaskId]) -> dict[TaskId, InboxUsage]:
        """Return the number and the bytes of the stored callbacks of each task that has any."""
        async with self._database.reading() as connection:
            rows = await connection.execute(USAGE, {"ids": ids})
            return {TaskId(task_id): InboxUsage(count, int(size)) for task_id, count, size in rows}

    async def unread_since(self) -> datetime | None:
        """Return when the oldest unread callback arrived, None if every callback is recorded."""
        async with self._database.reading() as connection:
            oldest: datetime | None = (await connection.execute(OLDEST_UNREAD)).scalar()
            return oldest
