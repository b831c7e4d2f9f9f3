"""SQLite without the driver's thread: statements run in the loop, one an iteration, and end with their process.

The storage's own code, SQL and transactions are unchanged. A crash closes the connections, which rolls back open
transactions; committed ones stay in the file.
"""

import asyncio
import atexit
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import PoolProxiedConnection

from service.storage import migrate
from service.storage.deferred import Deferred
from service.storage.sqlite_driver import BEGIN_WRITING

LOCKED_FOR = 10.0
RETRY_INTERVAL = 0.02
"""Maximum seconds until a waiting connection notices the end of another one's transaction."""

FILES = ("", "-wal", "-shm")
FAST_PRAGMAS = ("PRAGMA busy_timeout = 0", "PRAGMA synchronous = OFF", "PRAGMA foreign_keys = ON")


CHANGES = ("INSERT", "UPDATE", "DELETE", "WITH new")
WAITING: list[asyncio.Future[None]] = []
"""Connections that wait for another process's transaction to end."""


def _wake() -> None:
    for waiter in WAITING:
        _wake_one(waiter)
    WAITING.clear()


def _wake_one(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _wait_for_unlock(until: float) -> None:
    """Return once some transaction has ended, or shortly after `until`."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    WAITING.append(waiter)
    timer = loop.call_at(until + RETRY_INTERVAL, _wake_one, waiter)
    try:
        await waiter
    finally:
        timer.cancel()


class Host(Protocol):
    """The process that a connection belongs to."""

    name: str
    dead: bool
    connections: "list[SimConnection]"

    @property
    def disk_is_full(self) -> bool:
        """Return whether the database rejects writes now."""

    async def statement(self, sql: str) -> None:
        """Pause before a statement; the process may be stalled, or crash, here."""

    async def committing(self) -> None:
        """Pause before a commit; the process may crash here, and the commit never happens."""

    def committed(self, *, rows: int) -> None:
        """Handle a commit that changed `rows` rows; the process may crash here, before its caller continues."""

    def draw(self, what: str) -> float:
        """Draw a number from 0 to 1."""


class SimConnection:
    """One connection with the interface of SQLAlchemy's aiosqlite adapter."""

    def __init__(self, path: str, host: Host) -> None:
        self.raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        self.host = host
        self.changed = False
        self._begin: str | None = None
        self._deferred: list[Deferred] = []
        self._rows = 0
        self.pooled: PoolProxiedConnection | None = None
        host.connections.append(self)

    @property
    def _connection(self) -> sqlite3.Connection:
        return self.raw

    async def create_function(self, *args: Any, **kwargs: Any) -> None:
        """Register an SQL function."""
        self.raw.create_function(*args, **kwargs)

    def cursor(self) -> "SimCursor":
        """Return a cursor."""
        return SimCursor(self)

    async def insert_and_commit(self, sql: str, rows: Sequence[Any]) -> None:
        """Run a statement for each of `rows` in a transaction of its own; the process may crash at each step of it."""
        try:
            await self.run(BEGIN_WRITING, (), many=False)
            await self.run(sql, rows, many=True)
            await self.commit()
        except BaseException:
            self.roll_back()
            raise

    def begin(self, statement: str) -> None:
        """Begin a transaction with the next statement."""
        self._begin, self._deferred = statement, []

    def defer(self, statement: Deferred) -> None:
        """Run a statement right before the next one, or before the commit."""
        self._deferred.append(statement)

    async def run_deferred(self) -> None:
        """Run what is deferred; the process may crash at each statement of it."""
        begin, deferred = self._begin, self._deferred
        self._begin, self._deferred = None, []
        if begin:
            await self.run(begin, (), many=False)
        for each in deferred:
            if not each.returns:
                await self.run(each.statement, each.parameters or (), many=each.many)
                continue
            sets = each.parameters if each.many else [each.parameters or ()]
            cursors = [await self.run(each.statement, parameters, many=False) for parameters in sets]
            each.rows = [row for cursor in cursors for row in cursor.fetchall()]

    async def commit(self) -> None:
        """Run what is deferred and commit, unless the process crashes first."""
        if not self._deferred:
            self._begin = None
        try:
            await self.run_deferred()
        except sqlite3.Error:
            self.roll_back()
            raise
        if not self.raw.in_transaction:
            return
        if self.changed:
            await self.host.committing()
            self.writable()
        self.alive()
        self.raw.commit()
        _wake()
        if self.changed:
            self.changed = False
            rows, self._rows = self.raw.total_changes - self._rows, self.raw.total_changes
            self.host.committed(rows=rows)
            await asyncio.sleep(0)

    async def rollback(self) -> None:
        """Roll back."""
        self.roll_back()

    def roll_back(self) -> None:
        """Roll back; the connection of a dead process is closed already."""
        self._begin, self._deferred = None, []
        self.changed = False
        if not self.host.dead:
            self.raw.rollback()
            self._rows = self.raw.total_changes
        _wake()

    async def close(self) -> None:
        """Close."""
        self.stop()

    def stop(self) -> None:
        """Close without a pause."""
        self.raw.close()
        _wake()

    def release(self) -> None:
        """Close without a pause, and invalidate the pool's entry of a connection that was never returned."""
        if self.pooled is not None and self.pooled.is_valid:
            self.pooled.invalidate()
        self.pooled = None
        self.stop()

    async def run(self, sql: str, parameters: Any, *, many: bool) -> sqlite3.Cursor:
        """Run one statement, in its own iteration of the loop; wait in virtual time while another process writes."""
        await self.run_deferred()
        await self.host.statement(sql)
        until = asyncio.get_running_loop().time() + LOCKED_FOR
        while True:
            self.alive()
            try:
                return self._execute(sql, parameters, many=many)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or asyncio.get_running_loop().time() > until:
                    raise
            await _wait_for_unlock(until)
            await asyncio.sleep(self.host.draw("turn") * RETRY_INTERVAL)

    def _execute(self, sql: str, parameters: Any, *, many: bool) -> sqlite3.Cursor:
        if sql.startswith(CHANGES):
            self.writable()
            self.changed = True
        return self.raw.executemany(sql, parameters) if many else self.raw.execute(sql, parameters)

    def writable(self) -> None:
        """Raise SQLite's error for a full disk if the disk is full."""
        if self.host.disk_is_full:
            raise sqlite3.OperationalError("database or disk is full")

    def alive(self) -> None:
        """Raise a driver's error if the process is dead."""
        if self.host.dead:
            raise sqlite3.OperationalError("the process is dead")


class SimCursor:
    """One cursor with the interface of SQLAlchemy's adapter."""

    def __init__(self, sim_connection: SimConnection) -> None:
        self._sim_connection = sim_connection
        self._cursor: sqlite3.Cursor | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "SimCursor":
        return self

    @property
    def description(self) -> Any:
        """Return the columns of the result."""
        return self._cursor.description if self._cursor else None

    @property
    def rowcount(self) -> int:
        """Return how many rows were changed."""
        return self._cursor.rowcount if self._cursor else -1

    @property
    def lastrowid(self) -> int | None:
        """Return the newest row's id."""
        return self._cursor.lastrowid if self._cursor else None

    async def execute(self, sql: str, parameters: Any = ()) -> "SimCursor":
        """Run a statement."""
        self._cursor = await self._sim_connection.run(sql, parameters, many=False)
        return self

    async def executemany(self, sql: str, parameters: Any) -> "SimCursor":
        """Run a statement for each set of parameters."""
        self._cursor = await self._sim_connection.run(sql, parameters, many=True)
        return self

    async def fetchall(self) -> Sequence[Any]:
        """Return every row."""
        return self._cursor.fetchall() if self._cursor else []

    async def close(self) -> None:
        """Do nothing: SQLite frees the rows."""


@cache
def folder() -> Path:
    """Return this process's folder, in memory if possible; it is removed at exit."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of our own is made in it
    made = tempfile.mkdtemp(prefix="boomerang-simulation-", dir=base)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@cache
def template() -> Path:
    """Return a migrated, empty database, made once a process."""
    path = folder() / "template.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


def fresh_database() -> Path:
    """Return the path of an empty database, always the same one."""
    WAITING.clear()
    path = folder() / "simulation.db"
    for suffix in FILES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(template(), path)
    return path
