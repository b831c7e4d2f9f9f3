"""SQLAlchemy without its asyncio layer, which costs more than all statements of a run together.

Statements, types and results are SQLAlchemy's own; only the path to the driver is shorter. Faithful runs use the full
path.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.base import Executable

from tests.simulation.sqlite import CHANGES, FAST_PRAGMAS, Host, SimConnection

READERS = 3


@cache
def _sync_engine() -> Engine:
    """Return the engine that compiles the statements of every run; it connects once, to query SQLite's features."""
    engine = create_engine("sqlite://", hide_parameters=True)
    engine.connect().close()
    return engine


class _Cursor(sqlite3.Cursor):
    """Fetches all rows with the statement, as the driver of the service does."""

    _remaining: list[Any]

    def execute(self, sql: str, parameters: Any = ()) -> "_Cursor":
        """Run a statement."""
        super().execute(sql, parameters)
        self._remaining = super().fetchall()
        return self

    def executemany(self, sql: str, parameters: Any) -> "_Cursor":
        """Run a statement for each set of parameters."""
        super().executemany(sql, parameters)
        self._remaining = []
        return self

    def fetchall(self) -> list[Any]:
        """Return the remaining rows."""
        remaining, self._remaining = self._remaining, []
        return remaining

    def fetchone(self) -> Any:
        """Return the next row."""
        return self._remaining.pop(0) if self._remaining else None

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """Return the next `size` rows."""
        remaining, self._remaining = self._remaining[:size], self._remaining[size:]
        return remaining


class _Plug:
    """A driver connection in the form that SQLAlchemy expects; it controls no transaction."""

    is_valid = True

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.dbapi_connection = raw
        self.info: dict[str, Any] = {}

    def cursor(self) -> _Cursor:
        """Return a cursor."""
        return self.dbapi_connection.cursor(_Cursor)

    def commit(self) -> None:
        """Do nothing: the simulated connection commits."""

    rollback = close = commit


@dataclass(frozen=True)
class _Raw:
    """A pooled connection in the form that the storage expects."""

    driver_connection: SimConnection


@dataclass(frozen=True)
class _Sync:
    """A connection in the form in which the storage asks it for that of the driver."""

    connection: _Raw


class QuickConnection:
    """The part of SQLAlchemy's AsyncConnection that the storage uses."""

    def __init__(self, sim_connection: SimConnection) -> None:
        self.sim_connection = sim_connection
        self.sync_connection = _Sync(_Raw(sim_connection))
        plug: Any = _Plug(sim_connection.raw)
        self._sync = Connection(_sync_engine(), plug, _has_events=False)

    @property
    def dialect(self) -> Dialect:
        """Return the dialect."""
        return self._sync.dialect

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run a statement, in its own iteration of the loop."""
        await self._ready(changes=getattr(statement, "is_dml", False))
        return self._sync.execute(statement, parameters)

    async def exec_driver_sql(self, sql: str, parameters: Any = None) -> CursorResult[Any]:
        """Run plain SQL, in its own iteration of the loop."""
        await self._ready(changes=sql.startswith(CHANGES))
        return self._sync.exec_driver_sql(sql, parameters)

    async def get_raw_connection(self) -> _Raw:
        """Return the holder of the driver's connection."""
        return self.sync_connection.connection

    async def _ready(self, *, changes: bool) -> None:
        try:
            await self.sim_connection.run_deferred()
        except sqlite3.Error as error:
            raise OperationalError(None, None, error) from error
        await self.sim_connection.host.statement("")
        try:
            self.sim_connection.alive()
            if changes:
                self.sim_connection.writable()
                self.sim_connection.changed = True
        except sqlite3.Error as error:
            raise OperationalError(None, None, error) from error


class QuickEngine:
    """The part of SQLAlchemy's AsyncEngine that the storage uses: one writing connection, or a few read-only ones."""

    def __init__(self, path: str, host: Host, *, writes: bool) -> None:
        self._path = path
        self._host = host
        self._begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        self._pragmas: Sequence[str] = (*FAST_PRAGMAS, f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
        self._slots = asyncio.Semaphore(1 if writes else READERS)
        self._free: list[QuickConnection] = []

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[QuickConnection]:
        """Yield a connection in a transaction; commit at the end, roll back on an error."""
        async with self.connect() as connection, _transaction(connection.sim_connection, self._begin):
            yield connection

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[QuickConnection]:
        """Yield a connection without a transaction."""
        async with self._slots:
            connection = self._free.pop() if self._free else self._connect()
            try:
                yield connection
            finally:
                self._free.append(connection)

    def _connect(self) -> QuickConnection:
        sim_connection = SimConnection(self._path, self._host)
        for pragma in self._pragmas:
            sim_connection.raw.execute(pragma)
        return QuickConnection(sim_connection)

    async def dispose(self) -> None:
        """Close every connection."""
        for connection in self._free:
            connection.sim_connection.stop()
        self._free.clear()


@asynccontextmanager
async def _transaction(sim_connection: SimConnection, begin: str) -> AsyncIterator[None]:
    try:
        await sim_connection.run(begin, (), many=False)
    except sqlite3.Error as error:
        raise OperationalError(begin, None, error) from error
    try:
        yield
        try:
            await sim_connection.commit()
        except sqlite3.Error as error:
            raise OperationalError("COMMIT", None, error) from error
    except BaseException:
        sim_connection.roll_back()
        raise
