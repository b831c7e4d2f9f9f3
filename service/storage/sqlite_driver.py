"""SQLite: its file, its engine, and a driver that takes one thread hop a statement at most.

The cursors of aiosqlite 0.22 take four. aiosqlite would also run a statement once for each set of parameters and
acquire the interpreter's lock before each: with a busy event loop, each acquisition takes about a millisecond. Here one
statement takes many sets of parameters.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

import aiosqlite
from sqlalchemy import URL, event
from sqlalchemy import Connection as SyncConnection

from service.domain.errors import StoreUnavailable
from service.storage.async_engine import AsyncEngine, create_async_engine
from service.storage.deferred import Deferred

ITER_CHUNK_SIZE = 64
REPEATED = "/* each */ "
"""Marks the parentheses in a statement that are repeated for each set of parameters."""

ROWS_PER_STATEMENT = (32, 8, 2, 1)
"""Sets of parameters in one statement: few sizes, so that the driver's cache holds each as a prepared statement."""

BEGIN_WRITING = "BEGIN IMMEDIATE"

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process that writes."""

CHECKPOINT_PAGES = 4000
"""Pages of the log (16 MB) from which a COMMIT copies it into the file, which takes some milliseconds.

A callback and what follows from it write about 40 pages. With the default of 1000 one callback in fifty waits for the
copy, with 4000 one in two hundred.
"""

SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -4096",
    "PRAGMA journal_size_limit = 67108864",
    f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}",
    "PRAGMA temp_store = MEMORY",
)


class Connection(aiosqlite.Connection):
    """A connection whose statements take one thread hop each, also to fetch their rows, and deferred ones none.

    BEGIN and deferred statements run right before the next statement or the COMMIT, in its hop; their errors are raised
    there. What a hop runs is taken when it begins to wait for the thread: a rollback after a cancelled wait must not
    leave a part of it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._begin: str | None = None
        self._deferred: list[Deferred] = []

    def begin(self, statement: str) -> None:
        """Begin a transaction with the next statement; what was deferred before is dropped."""
        self._begin, self._deferred = statement, []

    def defer(self, statement: Deferred) -> None:
        """Run a statement of the transaction together with the next one."""
        self._deferred.append(statement)

    def take_deferred(self) -> Callable[[], None]:
        """Return a function for the thread: it runs BEGIN, if that has not run yet, and the deferred statements."""
        begin, deferred = self._begin, self._deferred
        self._begin, self._deferred = None, []
        return partial(self._run_deferred, begin, deferred)

    def _run_deferred(self, begin: str | None, deferred: Sequence[Deferred]) -> None:
        if begin:
            try:
                self._conn.execute(begin)
            except sqlite3.Error:
                self._begin = begin  # a statement that follows tries it again, and never runs outside a transaction
                raise
        for one in deferred:
            rows = run_many(self._conn, one.statement, one.parameters if one.many else [one.parameters or ()])
            if one.returns:
                one.rows = rows

    async def commit(self) -> None:
        """Run what is deferred and commit the transaction, if any; roll back if that fails, which releases its lock."""
        if not self._deferred:
            self._begin = None
        try:
            await self._execute(self._commit, self.take_deferred())  # type: ignore[no-untyped-call]
        except Exception:
            await self.rollback()
            raise

    def _commit(self, run_deferred: Callable[[], None]) -> None:
        run_deferred()
        self._conn.commit()

    async def rollback(self) -> None:
        """Roll back the transaction, if any."""
        self._begin, self._deferred = None, []
        await super().rollback()

    async def insert_and_commit(self, sql: str, rows: Sequence[Any]) -> None:
        """Run a statement for each of `rows`, all in one transaction and one thread hop."""
        if self._connection is None or not self._running:
            raise sqlite3.OperationalError("no active connection")  # the message by which SQLAlchemy detects a lost one
        await self._execute(self._insert_and_commit, sql, rows)  # type: ignore[no-untyped-call]

    def _insert_and_commit(self, sql: str, rows: Sequence[Any]) -> None:
        with self._conn:
            self._conn.execute(BEGIN_WRITING)
            run_many(self._conn, sql, rows)

    def cursor(self) -> "Cursor":  # type: ignore[override] # only SQLAlchemy's adapter calls it
        """Return a cursor, without a thread hop."""
        return Cursor(self)


@dataclass(slots=True, eq=False)
class Cursor:
    """One statement and its result, with the interface that SQLAlchemy's adapter needs."""

    connection: Connection
    arraysize: int = 1
    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    _rows: Sequence[Any] = ()

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> Self:
        """Run a statement and fetch its rows."""
        await self._run_on_thread(self._run, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Any) -> Self:
        """Run a statement for each set of parameters."""
        await self._run_on_thread(self._run_many, sql, parameters)
        return self

    async def _run_on_thread(self, run: Callable[[str, Any], None], sql: str, parameters: Any) -> None:
        """Run what is deferred, then a statement."""
        run_deferred = self.connection.take_deferred()

        def run_all() -> None:
            run_deferred()
            run(sql, parameters)

        await self.connection._execute(run_all)  # type: ignore[no-untyped-call] # noqa: SLF001

    def _run(self, sql: str, parameters: Any) -> None:
        cursor = self.connection._conn.cursor()  # noqa: SLF001
        try:
            cursor.execute(sql, parameters)
            self.description, self._rows = cursor.description, cursor.fetchall()
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
        finally:
            cursor.close()

    def _run_many(self, sql: str, parameters: Any) -> None:
        self._rows = run_many(self.connection._conn, sql, parameters)  # noqa: SLF001

    async def fetchall(self) -> Sequence[Any]:
        """Return every row."""
        return self._rows

    async def close(self) -> None:
        """Release the rows."""
        self._rows = ()


def run_many(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Run a statement for each of `rows`, and return what it returns; one that contains REPEATED takes many of them."""
    cursor = connection.cursor()
    try:
        if REPEATED not in sql:
            if len(rows) != 1:
                cursor.executemany(sql, rows)
                return []
            return cursor.execute(sql, rows[0]).fetchall()
        return [
            row
            for chunk in _chunks(rows)
            for row in cursor.execute(_repeat_parentheses(sql, len(chunk)), [*chain.from_iterable(chunk)])
        ]
    finally:
        cursor.close()


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


def sqlite_engine(url: URL, *, writes: bool) -> AsyncEngine:
    """Return an engine for the file in `url`: with one connection that writes, or three that only read."""
    engine = create_async_engine(
        url,
        connect_args={
            "isolation_level": None,
            "async_creator_fn": connect,
            "cached_statements": 512,  # the default of 128 is less than our number of statements
        },
        pool_size=1 if writes else 3,
        pool_reset_on_return=None,  # every transaction here ends itself: one thread hop less
        max_overflow=0,
        pool_timeout=30,
        hide_parameters=True,
    )
    pragmas = (*SQLITE_PRAGMAS, f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    begin = BEGIN_WRITING if writes else "BEGIN"  # `isolation_level` None turns off the driver's own

    def connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    def began(connection: SyncConnection) -> None:
        driver: Connection = connection.connection.driver_connection  # type: ignore[assignment]
        driver.begin(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", began)
    return engine


def prepare_file(path: Path) -> os.stat_result:
    """Create the SQLite file with mode 0600 if it is missing, set its journal to WAL, and return its status.

    Raises StoreUnavailable on failure. Two processes may do this at the same time.
    """
    try:
        path.touch(mode=0o600, exist_ok=True)
        _use_wal(path)
        return path.stat()
    except (OSError, sqlite3.Error) as error:
        message = str(getattr(error, "strerror", None) or error)
        reason = "its directory is missing" if isinstance(error, FileNotFoundError) else message
        raise StoreUnavailable(f"the database file {path} cannot be used: {reason}") from error


def _use_wal(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT)
    try:
        deadline = time.monotonic() + BUSY_TIMEOUT
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError:  # this statement ignores the busy timeout
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    finally:
        connection.close()
