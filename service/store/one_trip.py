"""SQLite on a thread of its own, with one trip there and back for a statement: the driver's cursors make four."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Self

import aiosqlite

ALL_AT_ONCE = 64
BEGIN_WRITING = "BEGIN IMMEDIATE"


class Connection(aiosqlite.Connection):
    """A connection whose cursors bring all rows back at once, and whose transactions begin with a statement."""

    _begin: str | None = None

    def begin_with_next(self, sql: str) -> None:
        """Run `sql`, which begins a transaction, on the way to the next statement."""
        self._begin = sql

    def begun(self) -> sqlite3.Connection:
        """Return the driver's connection, in the transaction that was to begin; on the connection's own thread."""
        sql, self._begin = self._begin, None
        if sql:
            self._conn.execute(sql)
        return self._conn

    async def commit(self) -> None:
        """Commit, if anything was begun."""
        self._begin = None
        await super().commit()

    async def rollback(self) -> None:
        """Roll back, if anything was begun."""
        self._begin = None
        await super().rollback()

    async def write_at_once(self, sql: str, rows: Sequence[Any]) -> None:
        """Run a statement for each of `rows` in a transaction of its own."""
        await self._execute(self._write, sql, rows)  # type: ignore[no-untyped-call]

    def _write(self, sql: str, rows: Sequence[Any]) -> None:
        with self._conn:
            self._conn.execute(BEGIN_WRITING)
            self._conn.executemany(sql, rows)

    def cursor(self) -> "Cursor":  # type: ignore[override] # SQLAlchemy's adapter is the only one that asks
        """Return a cursor, without a trip to the thread."""
        return Cursor(self)


class Cursor:
    """One statement and what came of it, as SQLAlchemy's adapter asks for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.arraysize = 1
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> Self:
        """Run a statement and fetch its rows."""
        return await self._trip(sqlite3.Cursor.execute, sql, parameters)

    async def executemany(self, sql: str, parameters: Any) -> Self:
        """Run a statement for each set of parameters."""
        return await self._trip(sqlite3.Cursor.executemany, sql, parameters)

    async def _trip(self, *call: Any) -> Self:
        await self._connection._execute(self._run, *call)  # type: ignore[no-untyped-call] # noqa: SLF001 - to its thread
        return self

    def _run(self, method: Any, sql: str, parameters: Any) -> None:
        cursor = self._connection.begun().cursor()
        try:
            method(cursor, sql, parameters)
            self.description, self._rows = cursor.description, cursor.fetchall()
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
        finally:
            cursor.close()

    async def fetchall(self) -> Sequence[Any]:
        """Return every row."""
        return self._rows

    async def close(self) -> None:
        """Let the rows go."""
        self._rows = ()


def connect(path: str, **options: Any) -> Connection:
    """Return a connection to the file, to be awaited; `options` are those of `sqlite3.connect`."""
    connection = Connection(lambda: sqlite3.connect(path, **options), ALL_AT_ONCE)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: it must not keep a process from ending
    return connection
