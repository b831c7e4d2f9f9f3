"""The values of handlers, by key."""

from datetime import datetime

from sqlalchemy import bindparam, delete, select

from service.domain.ports.handler_store import Change, StoredValue
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime
from service.storage.database import Database
from service.storage.dialects import advisory_lock, insert
from service.storage.handler_tables import handler_state

ROWS_PER_DELETE = 2000

OWN = (handler_state.c.handler == bindparam("of_handler")) & (handler_state.c.key == bindparam("of_key"))
STORED = select(handler_state.c.value, handler_state.c.expires_at).where(OWN)
DELETED = delete(handler_state).where(OWN)
EXPIRED = (
    select(handler_state.c.handler, handler_state.c.key)
    .where(handler_state.c.expires_at <= bindparam("now", type_=UtcDateTime()))
    .order_by(handler_state.c.handler, handler_state.c.key)
    .limit(ROWS_PER_DELETE)
    .with_for_update(skip_locked=True)
)


class SqlHandlerState:
    """Implements `HandlerStateStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, handler: str, key: str, *, now: datetime) -> StoredValue | None:
        """Return a value, None if it is absent or expired."""
        async with self._database.reading() as connection:
            return await _load(connection, handler, key, now)

    async def change(self, handler: str, key: str, change: Change, *, now: datetime) -> StoredValue | None:
        """Replace a value with what `change` returns for it, in one transaction; return the new one.

        Changes of one key run one after the other, in all processes.
        """
        async with self._database.writing() as write:
            await advisory_lock(write.connection, f"handler state {handler} {key}")
            new = change(await _load(write.connection, handler, key, now))
            if new is None:
                await write.connection.execute(DELETED, {"of_handler": handler, "of_key": key})
                return None
            statement = insert(write.connection, handler_state)
            values = {name: statement.excluded[name] for name in ("value", "expires_at", "changed_at")}
            upsert = statement.on_conflict_do_update(index_elements=["handler", "key"], set_=values)
            row = {"handler": handler, "key": key, "value": new.value, "expires_at": new.expires_at, "changed_at": now}
            await write.connection.execute(upsert, row)
            return new

    async def prune(self, *, now: datetime) -> int:
        """Delete expired values in short transactions; return how many."""
        deleted, last = 0, ROWS_PER_DELETE
        while last == ROWS_PER_DELETE:
            async with self._database.writing() as write:
                rows = (await write.connection.execute(EXPIRED, {"now": now})).all()
                last = len(rows)
                again = DELETED.where(handler_state.c.expires_at <= bindparam("now", type_=UtcDateTime()))
                if rows:  # a value that was set again meanwhile stays
                    keys = [{"of_handler": row.handler, "of_key": row.key, "now": now} for row in rows]
                    await write.connection.execute(again, keys)
            deleted += last
        return deleted


async def _load(connection: AsyncConnection, handler: str, key: str, now: datetime) -> StoredValue | None:
    row = (await connection.execute(STORED, {"of_handler": handler, "of_key": key})).one_or_none()
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        return None
    return StoredValue(value=row.value, expires_at=row.expires_at)
