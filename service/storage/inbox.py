"""The inbox by itself: callbacks are kept as they come, and recorded later."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import func, select

from service.domain.ports.unit_of_work import InboxEntry
from service.storage.database import Database
from service.storage.in_list import in_list
from service.storage.tables import UNREAD, inbox


class SqlInbox:
    """Implements `Inbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, entries: Sequence[InboxEntry]) -> set[str]:
        """Store durably those that are new, as `unread`; return the digests whose nonce another callback has used."""
        if not entries:
            return set()
        rows = [vars(entry) for entry in sorted(entries, key=lambda entry: entry.digest)]  # one order: no deadlock
        await self._database.insert_and_commit(inbox, rows, "inbox")
        signed = {entry.digest for entry in entries if entry.nonce}
        return signed - await self._kept(signed) if signed else set()

    async def _kept(self, digests: Collection[str]) -> set[str]:
        async with self._database.reading() as connection:
            return set((await connection.execute(STORED_DIGESTS, {"digests": digests})).scalars())

    async def unread_since(self) -> datetime | None:
        """Return when the oldest unread callback came, None when every one is recorded."""
        async with self._database.reading() as connection:
            oldest: datetime | None = (await connection.execute(OLDEST_UNREAD)).scalar()
            return oldest


STORED_DIGESTS = select(inbox.c.digest).where(in_list(inbox.c.digest, "digests"))
OLDEST_UNREAD = select(func.min(inbox.c.received_at)).where(UNREAD)
