"""The audit log, and the sign-ins that ended."""

from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from service.domain.ports.audit import AuditEntry, AuditRow
from service.storage.audit_tables import audit_log, ended_sign_ins
from service.storage.database import Database
from service.storage.dialects import insert

KEPT_FOR = timedelta(days=30)
"""How long an ended sign-in is kept after its expiry: for a clock that is set back, or of another process, it may be
valid still."""


class SqlAuditLog:
    """Implements `AuditLog`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entry: AuditEntry) -> int:
        """Store an entry durably and return its number."""
        statement = audit_log.insert().values(**vars(entry)).returning(audit_log.c.seq)
        async with self._database.writing() as write:
            return int((await write.connection.execute(statement)).scalar_one())

    async def complete(self, number: int, *, target: str, detail: str) -> None:
        """Change the target and the detail of an entry."""
        statement = update(audit_log).where(audit_log.c.seq == number).values(target=target, detail=detail)
        async with self._database.writing() as write:
            await write.connection.execute(statement)

    async def remove(self, number: int) -> None:
        """Delete the entry of a change that was not made."""
        async with self._database.writing() as write:
            await write.connection.execute(delete(audit_log).where(audit_log.c.seq == number))

    async def entries(
        self, *, actor: str | None, action: str | None, target: str | None, before: int | None, limit: int
    ) -> list[AuditRow]:
        """Return entries, newest first, with numbers below `before`."""
        query = select(audit_log)
        for column, value in (("actor", actor), ("action", action), ("target", target)):
            query = query if value is None else query.where(audit_log.c[column] == value)
        if before is not None:
            query = query.where(audit_log.c.seq < before)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(audit_log.c.seq.desc()).limit(limit))
            found = [dict(row) for row in rows.mappings()]
        return [AuditRow(seq=row.pop("seq"), entry=AuditEntry(**row)) for row in found]


class SqlEndedSignIns:
    """Implements `EndedSignIns`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def end(self, sign_in_id: str, *, expires: datetime, now: datetime) -> bool:
        """Store that a sign-in ended, and delete what expired long ago; return whether it had not ended before."""
        old = select(ended_sign_ins.c.id).where(ended_sign_ins.c.expires_at < now - KEPT_FOR)
        unlocked = old.with_for_update(skip_locked=True)  # another process deletes the others at this moment
        async with self._database.writing() as write:
            await write.connection.execute(delete(ended_sign_ins).where(ended_sign_ins.c.id.in_(unlocked)))
            statement = insert(write.connection, ended_sign_ins).values(id=sign_in_id, expires_at=expires)
            stored = statement.on_conflict_do_nothing().returning(ended_sign_ins.c.id)
            return (await write.connection.execute(stored)).first() is not None

    async def ended(self, sign_in_id: str) -> bool:
        """Return whether a sign-in ended."""
        query = select(ended_sign_ins.c.id).where(ended_sign_ins.c.id == sign_in_id)
        async with self._database.reading() as connection:
            return (await connection.execute(query)).first() is not None
