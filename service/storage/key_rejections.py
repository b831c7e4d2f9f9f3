"""Since when the provider rejects our key, known to all processes.

It is a row of `submission_pauses`, whose other rows have other names: releases before this one do not read it.
"""

from datetime import datetime

from sqlalchemy import delete, select

from service.storage.async_engine import AsyncConnection
from service.storage.database import Database
from service.storage.dialects import insert
from service.storage.tables import submission_pauses

KEY = "provider_key"
"""The name of its row."""

OF_KEY = submission_pauses.c.name == KEY


class SqlKeyRejections:
    """Implements `KeyRejections`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rejected(self, now: datetime) -> bool:
        """Store that the key is rejected since `now`, unless it was before; return whether that is new."""
        async with self._database.writing() as write:
            row = {"name": KEY, "since": now, "refused_at": now, "resume_at": now, "refusals": 1}
            statement = insert(write.connection, submission_pauses).on_conflict_do_nothing(index_elements=["name"])
            stored = await write.connection.execute(statement.values(row).returning(submission_pauses.c.name))
            return stored.first() is not None

    async def accepted(self) -> bool:
        """Store that the key is accepted; return whether it was rejected before."""
        async with self._database.reading() as connection:
            if await rejected_since(connection) is None:
                return False
        async with self._database.writing() as write:
            return (await write.connection.execute(delete(submission_pauses).where(OF_KEY))).rowcount > 0


async def rejected_since(connection: AsyncConnection) -> datetime | None:
    """Return since when the key is rejected, None while it is not."""
    found: datetime | None = (
        await connection.execute(select(submission_pauses.c.since).where(OF_KEY))
    ).scalar_one_or_none()
    return found
