"""The pauses of handlers."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import RowMapping, delete, select

from service.domain.ports.handler_pauses import CONTROLS, HandlerPause
from service.storage.async_engine import AsyncConnection
from service.storage.control_tables import handler_pauses
from service.storage.database import Database
from service.storage.dialects import insert

PAUSES = select(handler_pauses)
NAMES = select(handler_pauses.c.names)


class SqlHandlerPauses:
    """Implements `HandlerPauses`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def paused(self) -> dict[str, HandlerPause]:
        """Return the pauses by the stored name of the handler."""
        async with self._database.reading() as connection:
            rows = await connection.execute(PAUSES)
            return {row["handler"]: _pause(row) for row in rows.mappings()}

    async def pause(self, handler: str, *, names: Sequence[str], by: str, now: datetime) -> HandlerPause:
        """Pause a handler durably and return its pause; one that is paused stays as it is."""
        unchanged = {"handler": handler_pauses.c.handler}  # but locked: a resume may not end it before it is returned
        async with self._database.writing() as write:
            statement = insert(write.connection, handler_pauses)
            upsert = statement.on_conflict_do_update(index_elements=["handler"], set_=unchanged)
            values = {"handler": handler, "names": list(names), "since": now, "by": by}
            row = (await write.connection.execute(upsert.returning(handler_pauses), values)).mappings().one()
            write.topics.add(CONTROLS)
            return _pause(row)

    async def resume(self, handler: str) -> bool:
        """End the pause of a handler; return whether it was paused."""
        statement = delete(handler_pauses).where(handler_pauses.c.handler == handler)
        async with self._database.writing() as write:
            ended = (await write.connection.execute(statement)).rowcount > 0
            write.topics.add(CONTROLS)
            return ended


async def paused_names(connection: AsyncConnection) -> set[str]:
    """Return every name that deliveries of paused handlers may have."""
    return {name for names in (await connection.execute(NAMES)).scalars() for name in names}


def _pause(row: RowMapping) -> HandlerPause:
    return HandlerPause(**{**row, "names": tuple(row["names"])})
