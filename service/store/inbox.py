"""The inbox by itself: callbacks are kept as they come, and recorded later."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select

from service.ports import InboxEntry
from service.store.bulk import insert_many
from service.store.engine import Database
from service.store.tables import UNREAD, inbox


class StoreInbox:
    """Implements `Inbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, entries: Sequence[InboxEntry]) -> set[str]:
        """Store durably those that are new, as `unread`; return the digests whose nonce another callback has used."""
        rows = [vars(entry) for entry in sorted(entries, key=lambda entry: entry.digest)]  # one order: no deadlock
        async with self._database.writing() as write:
            await insert_many(write.connection, inbox, rows)
            signed = {entry.digest for entry in entries if entry.nonce}
            known = select(inbox.c.digest).where(inbox.c.digest.in_(signed))
            reused = signed - set((await write.connection.execute(known)).scalars()) if signed else set()
            write.topics.add("inbox")
        return reused

    async def unread_since(self) -> datetime | None:
        """Return when the oldest unread callback came, None when every one is recorded."""
        async with self._database.reading() as connection:
            oldest: datetime | None = (await connection.execute(OLDEST_UNREAD)).scalar()
            return oldest


OLDEST_UNREAD = select(func.min(inbox.c.received_at)).where(UNREAD)
