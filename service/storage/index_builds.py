"""Indexes that a migration adds to tables with many rows: PostgreSQL builds them before it, which blocks no writer.

`CREATE INDEX` alone stops every insert and update of its table until it ends; `CONCURRENTLY` does not, and cannot run
in the transaction of the migrations. So `build_indexes` runs before that transaction, which then finds them. Where the
session is that of a connection pooler, or the database is new, the migration creates them itself.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from sqlalchemy import Connection

from service.domain.errors import StoreUnavailable

if TYPE_CHECKING:  # needs the optional driver
    from service.storage.pg_address import PostgresAddress
    from service.storage.pg_driver import Session

UNSUCCESSFUL = "status IN ('canceled', 'expired', 'failed')"
IN_FLIGHT = "status IN ('in_doubt', 'in_progress', 'submitting')"
WITHOUT_RESULT = "status = 'completed' AND output = '[]'"

LOCK = crc32(b"boomerang index builds")
LOCK_PAUSE = 0.5
"""Seconds between two tries to get the lock: a build would wait for a transaction that waits in the server for it."""

WITHOUT_LIMITS = "SET statement_timeout = 0; SET lock_timeout = 0"
FOUND = """
    SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relname = %s AND relnamespace = current_schema()::regnamespace
"""
INTERRUPTED = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace
"""
"""The indexes whose build was interrupted: nothing reads them, and their names are taken."""


@dataclass(frozen=True, kw_only=True)
class NewIndex:
    """An index to create: its columns in order, and the condition of a partial one."""

    name: str
    table: str
    columns: tuple[str, ...]
    where: str = ""

    def statement(self, *, concurrently: bool = False) -> str:
        """Return the statement that creates it unless it exists."""
        where = f" WHERE {self.where}" if self.where else ""
        how = "CONCURRENTLY " if concurrently else ""
        return f"CREATE INDEX {how}IF NOT EXISTS {self.name} ON {self.table} ({', '.join(self.columns)}){where}"


NEWEST = ("created_at", "id")
INDEXES_OF_LISTS = (
    NewIndex(name="tasks_unsuccessful", table="tasks", columns=(*NEWEST, "status"), where=UNSUCCESSFUL),
    NewIndex(
        name="tasks_unsuccessful_by_client",
        table="tasks",
        columns=("client", *NEWEST, "status"),
        where=UNSUCCESSFUL,
    ),
    NewIndex(name="tasks_at_provider", table="tasks", columns=(*NEWEST, "status", "client"), where=IN_FLIGHT),
    NewIndex(name="tasks_without_result_newest", table="tasks", columns=NEWEST, where=WITHOUT_RESULT),
    NewIndex(
        name="tasks_submissions",
        table="tasks",
        columns=("submitted_at", "bucket", "cost", "status", "client", "model"),
    ),
    NewIndex(
        name="deliveries_dead_by_client", table="deliveries", columns=("client", *NEWEST), where="status = 'dead'"
    ),
)
"""Those of the migration 0017."""

INDEXES_OF_TASKS = (
    NewIndex(
        name="deliveries_pending_of_task",
        table="deliveries",
        columns=("task_id",),
        where="status || '' = 'pending'",
    ),
)
"""Those of the migration 0018."""

BUILT = (*INDEXES_OF_LISTS, *INDEXES_OF_TASKS)
"""All of them. Their columns are in every earlier schema."""

SINCE = "0018"
"""The schema that has them."""


def create_missing(connection: Connection, indexes: Iterable[NewIndex]) -> None:
    """Create the indexes that are not there, in the transaction of a migration."""
    interrupted: set[str] = set()
    if connection.dialect.name == "postgresql":
        interrupted = set(connection.exec_driver_sql(INTERRUPTED).scalars())
    for index in indexes:
        if index.name in interrupted:
            connection.exec_driver_sql(f"DROP INDEX {index.name}")
        connection.exec_driver_sql(index.statement())


async def build_indexes(at: "PostgresAddress") -> None:
    """Build the indexes of SINCE in an earlier schema, beside running processes; raises StoreUnavailable.

    An index whose build was interrupted is built anew. It takes as long as the tables need, without a limit.
    """
    import psycopg  # noqa: PLC0415 - an extra

    from service.storage.pg_connect import connect  # noqa: PLC0415 - needs the driver of an extra
    from service.storage.pg_sessions import set_up  # noqa: PLC0415 - the same

    try:
        session = await connect(at)
        try:
            if not await set_up(session, at, shared=at.pooled):
                await _build(session)
        finally:
            await session.close()
    except (psycopg.Error, OSError) as error:
        raise StoreUnavailable(f"an index cannot be built now: {' '.join(str(error).split())}") from error


async def _build(session: "Session") -> None:
    await session.execute(WITHOUT_LIMITS)
    while not await _locked(session):  # noqa: ASYNC110 - another process has it, perhaps of another host
        await asyncio.sleep(LOCK_PAUSE)
    for index in BUILT:
        row = await (await session.execute(FOUND, (index.name,))).fetchone()
        if row is not None and not row[0]:
            await session.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}")
        if row is None or not row[0]:
            await session.execute(index.statement(concurrently=True))


async def _locked(session: "Session") -> bool:
    row = await (await session.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))).fetchone()
    return row is not None and bool(row[0])
