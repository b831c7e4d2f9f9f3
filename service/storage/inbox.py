"""The inbox: stores callbacks without recording them."""

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter

from sqlalchemy import func, select

from service.domain.ports.unit_of_work import InboxEntry
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.tables import UNREAD, inbox

STORED_DIGESTS = select(inbox.c.digest).where(in_list(inbox.c.digest, "digests"))
OLDEST_UNREAD = select(func.min(inbox.c.received_at)).where(UNREAD)


class SqlInbox:
    """Implements `Inbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store_unread(self, entries: Sequence[InboxEntry]) -> set[str]:
        """Store new callbacks durably as `unread`; return the digests whose nonce another callback has used."""
        if not entries:
            return set()
        rows = [vars(entry) for entry in sorted(entries, key=attrgetter("digest"))]  # one order: no deadlock
        await self._database.insert_and_commit(inbox, rows, "inbox")
        signed = {entry.digest for entry in entries if entry.nonce}
        if not signed:
            return set()
        async with self._database.reading() as connection:
            return signed - set((await connection.execute(STORED_DIGESTS, {"digests": signed})).scalars())

    async def unread_since(self) -> datetime | None:
        """Return when the oldest unread callback arrived, None if every callback is recorded."""
        async with self._database.reading() as connection:
            oldest: datetime | None = (await connection.execute(OLDEST_UNREAD)).scalar()
            return oldest
