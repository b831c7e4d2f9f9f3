"""Locks that a test holds in PostgreSQL: a race has one order, since the store's transactions wait at a known place."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from tests.acceptance.processes import until
from tests.storage.conftest import EmptyDatabase

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@dataclass(frozen=True, kw_only=True)
class OtherSession:
    """A session of another process, in a transaction; `watcher` is outside of it."""

    connection: psycopg.AsyncConnection
    watcher: psycopg.AsyncConnection

    async def run(self, statement: sql.SQL | sql.Composed, *values: object) -> None:
        """Run a statement in the transaction; raises psycopg.errors.LockNotAvailable if it waits for a second."""
        await self.connection.execute("SET LOCAL lock_timeout = '1s'")
        await self.connection.execute(statement, values)

    async def until_waiting(self, count: int) -> None:
        """Return once `count` transactions of the database wait for a lock."""

        async def waiting() -> bool:
            row = await (await self.watcher.execute(WAITING)).fetchone()
            return row is not None and bool(row[0] >= count)

        await until(waiting, what=f"{count} waiting transactions", seconds=30, pause=0.01)


@asynccontextmanager
async def other_session(database: EmptyDatabase) -> AsyncIterator[OtherSession]:
    """Yield a session in a transaction, which is committed at the end of the block."""
    async with (
        await psycopg.AsyncConnection.connect(database.url, autocommit=True) as watcher,
        await psycopg.AsyncConnection.connect(database.url) as connection,
    ):
        yield OtherSession(connection=connection, watcher=watcher)


@asynccontextmanager
async def updates_held(database: EmptyDatabase, table: str, *, waiting: int) -> AsyncIterator[None]:
    """Hold every UPDATE of `table` back inside the block, until `waiting` transactions wait for a lock.

    Rows can be read and locked meanwhile. What the block starts goes on at its end.
    """
    async with other_session(database) as session:
        await session.run(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(table)))
        yield
        await session.until_waiting(waiting)
