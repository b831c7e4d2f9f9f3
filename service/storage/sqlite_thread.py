"""SQLite on a thread of its own, with one trip there and back for a statement: the driver's cursors make four.

The driver would also run a statement once for each set of parameters, and ask for the interpreter's lock before each: a
busy event loop lets it wait for a millisecond every time. Here many sets go into one statement.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Self

import aiosqlite

ITER_CHUNK_SIZE = 64
REPEATED = "/* each */ "
"""Stands in a statement before the parentheses that many sets of parameters are written in, one after the other."""

ROWS_PER_STATEMENT = (32, 8, 2, 1)
"""How many sets go into one statement: few sizes, so that the driver finds each of them prepared."""

BEGIN_WRITING = "BEGIN IMMEDIATE"


class Connection(aiosqlite.Connection):
    """A connection whose cursors bring all rows back at once, and whose transactions begin with a statement."""

    _begin: str | None = None

    def begin_before_next(self, sql: str) -> None:
        """Run `sql`, which begins a transaction, on the way to the next statement."""
        self._begin = sql

    def begun(self) -> sqlite3.Connection:
        """Return the driver's connection, in the transaction that was to begin; on the connection's own thread."""
        if self._begin:
            self._conn.execute(self._begin)
            self._begin = None  # only now: what follows a beginning that failed begins once more
        return self._conn

    async def commit(self) -> None:
        """Commit, if anything was begun; what cannot be committed is rolled back, and holds no lock."""
        self._begin = None
        try:
            await super().commit()
        except sqlite3.Error:
            await super().rollback()
            raise

    async def rollback(self) -> None:
        """Roll back, if anything was begun."""
        self._begin = None
        await super().rollback()

    async def insert_and_commit(self, sql: str, rows: Sequence[Any]) -> None:
        """Run a statement for each of `rows`, all in one transaction and one trip."""
        if self._connection is None or not self._running:
            raise sqlite3.OperationalError("no active connection")  # in the words by which SQLAlchemy knows a lost one
        await self._execute(self._write, sql, rows)  # type: ignore[no-untyped-call]

    def _write(self, sql: str, rows: Sequence[Any]) -> None:
        with self._conn:
            self._conn.execute(BEGIN_WRITING)
            run_many(self._conn.cursor(), sql, rows)

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
        return await self._trip(run_many, sql, parameters)

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


def run_many(cursor: sqlite3.Cursor, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run a statement for each of `rows`, as many at once as there is room for behind its EACH."""
    if REPEATED not in sql:
        cursor.executemany(sql, rows)
        return
    for some in _chunks(rows):
        cursor.execute(_repeat_parentheses(sql, len(some)), [*chain.from_iterable(some)])


def _chunks(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    at = 0
    for size in ROWS_PER_STATEMENT:
        while len(rows) - at >= size:
            yield rows[at : at + size]
            at += size


@cache
def _repeat_parentheses(sql: str, count: int) -> str:
    """Return the statement with `count` times the parentheses behind its EACH."""
    head, _, rest = sql.partition(REPEATED)
    one, closing, tail = rest.partition(")")
    return head + ", ".join([one + closing] * count) + tail


def connect(path: str, **options: Any) -> Connection:
    """Return a connection to the file, to be awaited; `options` are those of `sqlite3.connect`."""
    connection = Connection(lambda: sqlite3.connect(path, **options), ITER_CHUNK_SIZE)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: it must not keep a process from ending
    return connection
