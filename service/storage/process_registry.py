"""The registrations of processes with the signing keys that they know."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Table, delete, func, select

from service.domain.ports.process_registry import KeyDecision, ProcessKeys, RegisteredKeys
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.dialects import advisory_lock, insert
from service.storage.process_tables import last_runs, processes, signing_keys
from service.storage.tables import IN_FLIGHT, tasks


class SqlProcessRegistry:
    """Implements `ProcessRegistry`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(self, own: ProcessKeys, decide: Callable[[RegisteredKeys], KeyDecision]) -> None:
        """Register `own` and the key that it signs with; the lock lets one process at a time read, decide and write."""
        async with self._database.writing() as write:
            connection = write.connection
            await advisory_lock(connection, "processes")
            decision = decide(await _registered(connection, own.id))
            if decision.ended:
                await connection.execute(
                    delete(processes).where(in_list(processes.c.id, "ids")), {"ids": decision.ended}
                )
            if decision.unused:
                gone = delete(signing_keys).where(in_list(signing_keys.c.fingerprint, "unused"))
                await connection.execute(gone, {"unused": decision.unused})
            values = {**vars(own), "fingerprints": list(own.fingerprints)}
            await _upsert(connection, processes, values, changed=("fingerprints", "seen_at", "role", "host"))
            used = {"fingerprint": decision.signing, "used_at": own.seen_at}
            await _upsert(connection, signing_keys, used, changed=("used_at",))

    async def remove(self, process_id: str) -> None:
        """Delete the registration."""
        async with self._database.writing() as write:
            await write.connection.execute(delete(processes).where(processes.c.id == process_id))

    async def count_unfinished(self, *, submitted_until: datetime) -> int:
        """Count the unfinished tasks at the provider that were submitted by then."""
        query = select(func.count()).select_from(tasks).where(IN_FLIGHT, tasks.c.submitted_at <= submitted_until)
        async with self._database.reading() as connection:
            count: int = (await connection.execute(query)).scalar_one()
            return count


class SqlLastRuns:
    """Implements `LastRuns`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, name: str, at: datetime) -> None:
        """Store the time in place of the one before."""
        async with self._database.writing() as write:
            await _upsert(write.connection, last_runs, {"name": name, "at": at}, changed=("at",))


async def _registered(connection: AsyncConnection, own_id: str) -> RegisteredKeys:
    rows = (await connection.execute(select(processes).where(processes.c.id != own_id))).mappings()
    others = tuple(ProcessKeys(**{**row, "fingerprints": tuple(row["fingerprints"])}) for row in rows)
    used = await connection.execute(select(signing_keys.c.fingerprint, signing_keys.c.used_at))
    return RegisteredKeys(others=others, used_at={row.fingerprint: row.used_at for row in used})


async def _upsert(
    connection: AsyncConnection, table: Table, values: Mapping[str, Any], *, changed: tuple[str, ...]
) -> None:
    """Insert a row, or update the columns `changed` of the one with its primary key."""
    statement = insert(connection, table).values(values)
    updates = {name: statement.excluded[name] for name in changed}
    await connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=updates))
