"""SQLite on its own thread, with one thread hop a statement; the cursors of aiosqlite 0.22 take four.

aiosqlite would also run a statement once for each set of parameters and acquire the interpreter's lock before each:
with a busy event loop, each acquisition takes about a millisecond. Here one statement takes many sets of parameters.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Self

import aiosqlite

ITER_CHUNK_SIZE = 64
REPEATED = "/* each */ "
"""Marks the parentheses in a statement that are repeated for each set of parameters."""

ROWS_PER_STATEMENT = (32, 8, 2, 1)
"""Sets of parameters in one statement: few sizes, so that the driver's cache holds each as a prepared statement."""

BEGIN_WRITING = "BEGIN IMMEDIATE"


class Connection(aiosqlite.Connection):
    """A connection whose cursors fetch all rows in the same thread hop, and whose BEGIN shares that of a statement.

    `pending_begin` is the BEGIN that runs before the next statement.
    """

    pending_begin: str | None = None

    async def commit(self) -> None:
        """Commit the transaction, if any; roll back if that fails, so that it holds no lock."""
        self.pending_begin = None
        try:
            await super().commit()
        except sqlite3.Error:
            await super().rollback()
            raise

    async def rollback(self) -> None:
        """Roll back the transaction, if any."""
        self.pending_begin = None
        await super().rollback()

    async def insert_and_commit(self, sql: str, rows: Sequence[Any]) -> None:
        """Run a statement for each of `rows`, all in one transaction and one thread hop."""
        if self._connection is None or not self._running:
            raise sqlite3.OperationalError("no active connection")  # the message by which SQLAlchemy detects a lost one
        await self._execute(self._insert_and_commit, sql, rows)  # type: ignore[no-untyped-call]

    def _insert_and_commit(self, sql: str, rows: Sequence[Any]) -> None:
        with self._conn:
            self._conn.execute(BEGIN_WRITING)
            run_many(self._conn.cursor(), sql, rows)

    def cursor(self) -> "Cursor":  # type: ignore[override] # only SQLAlchemy's adapter calls it
        """Return a cursor, without a thread hop."""
        return Cursor(self)


class Cursor:
    """One statement and its result, with the interface that SQLAlchemy's adapter needs."""

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
        await self._connection._execute(self._run, sqlite3.Cursor.execute, sql, parameters)  # type: ignore[no-untyped-call] # noqa: SLF001
        return self

    async def executemany(self, sql: str, parameters: Any) -> Self:
        """Run a statement for each set of parameters."""
        await self._connection._execute(self._run, run_many, sql, parameters)  # type: ignore[no-untyped-call] # noqa: SLF001
        return self

    def _run(self, method: Any, sql: str, parameters: Any) -> None:
        """Run the pending BEGIN and the statement, on the thread of the connection."""
        driver, begin = self._connection._conn, self._connection.pending_begin  # noqa: SLF001
        if begin:
            driver.execute(begin)
            self._connection.pending_begin = None  # after a BEGIN that failed, the next statement tries it again
        cursor = driver.cursor()
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
        """Release the rows."""
        self._rows = ()


def run_many(cursor: sqlite3.Cursor, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run a statement for each of `rows`; one that contains REPEATED runs once for many of them."""
    if REPEATED not in sql:
        cursor.executemany(sql, rows)
        return
    for chunk in _chunks(rows):
        cursor.execute(_repeat_parentheses(sql, len(chunk)), [*chain.from_iterable(chunk)])


def _chunks(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    start = 0
    for size in ROWS_PER_STATEMENT:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


@cache
def _repeat_parentheses(sql: str, count: int) -> str:
    """Return the statement with the parentheses after REPEATED written `count` times."""
    head, _, rest = sql.partition(REPEATED)
    one, closing, tail = rest.partition(")")
    return head + ", ".join([one + closing] * count) + tail


def connect(path: str, **options: Any) -> Connection:
    """Return an unopened connection to the file, to be awaited; `options` are those of `sqlite3.connect`."""
    connection = Connection(lambda: sqlite3.connect(path, **options), ITER_CHUNK_SIZE)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: the thread must not keep the process alive
    return connection
