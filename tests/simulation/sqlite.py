"""SQLite without the driver's thread: statements run in the loop, one a lap, and die with their process.

The store's own code, its SQL and its transactions stay as they are. A crash closes the connections, which rolls back
what was not committed; what was committed stays in the file.
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
from unittest.mock import patch

from sqlalchemy.ext.asyncio import AsyncEngine

from service.store import dialect, migrate, one_trip
from tests.simulation.loop import OWNER

LOCKED_FOR = 10.0
LOOK_AGAIN = 0.01
FILES = ("", "-wal", "-shm")
FAST_PRAGMAS = ("PRAGMA busy_timeout = 0", "PRAGMA synchronous = OFF", "PRAGMA foreign_keys = ON")


class Host(Protocol):
    """The process that a connection belongs to."""

    name: str
    dead: bool
    wires: "list[Wire]"

    async def statement(self, sql: str) -> None:
        """Pause before a statement; the process may be stalled, or crash, here."""

    async def committing(self) -> None:
        """Pause before a commit; the process may crash here, and the commit never happens."""

    def committed(self) -> None:
        """Hear of a commit; the process may crash here, and nobody is told."""


class Wire:
    """One connection as SQLAlchemy's aiosqlite adapter wants it."""

    def __init__(self, path: str, host: Host) -> None:
        self.raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        self.host = host
        self.changed = False
        host.wires.append(self)

    @property
    def _connection(self) -> sqlite3.Connection:
        return self.raw

    async def create_function(self, *args: Any, **kwargs: Any) -> None:
        """Register an SQL function."""
        self.raw.create_function(*args, **kwargs)

    def cursor(self) -> "WireCursor":
        """Return a cursor."""
        return WireCursor(self)

    async def commit(self) -> None:
        """Commit, if the process lives to do it."""
        if not self.raw.in_transaction:
            return
        if self.changed:
            await self.host.committing()
        self._alive()
        self.raw.commit()
        if self.changed:
            self.changed = False
            self.host.committed()
            await asyncio.sleep(0)

    async def rollback(self) -> None:
        """Roll back; what is dead has been rolled back."""
        self.changed = False
        if not self.host.dead:
            self.raw.rollback()

    async def close(self) -> None:
        """Close."""
        self.raw.close()

    def stop(self) -> None:
        """Close at once."""
        self.raw.close()

    async def run(self, sql: str, parameters: Any, *, many: bool) -> sqlite3.Cursor:
        """Run one statement, in its own lap of the loop; wait in virtual time while another process writes."""
        await self.host.statement(sql)
        until = asyncio.get_running_loop().time() + LOCKED_FOR
        while True:
            self._alive()
            try:
                return self._execute(sql, parameters, many=many)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(LOOK_AGAIN)

    def _execute(self, sql: str, parameters: Any, *, many: bool) -> sqlite3.Cursor:
        done = self.raw.executemany(sql, parameters) if many else self.raw.execute(sql, parameters)
        self.changed = self.changed or sql.startswith(("INSERT", "UPDATE", "DELETE"))
        return done

    def _alive(self) -> None:
        if self.host.dead:
            raise sqlite3.OperationalError("the process is dead")


class WireCursor:
    """One cursor as SQLAlchemy's adapter wants it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._cursor: sqlite3.Cursor | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "WireCursor":
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

    async def execute(self, sql: str, parameters: Any = ()) -> "WireCursor":
        """Run a statement."""
        self._cursor = await self._wire.run(sql, parameters, many=False)
        return self

    async def executemany(self, sql: str, parameters: Any) -> "WireCursor":
        """Run a statement for each set of parameters."""
        self._cursor = await self._wire.run(sql, parameters, many=True)
        return self

    async def fetchall(self) -> Sequence[Any]:
        """Return every row."""
        return self._cursor.fetchall() if self._cursor else []

    async def close(self) -> None:
        """Let the rows go."""


async def _connected(*args: Any, **_kwargs: Any) -> Wire:
    host: Any = OWNER.get()
    return Wire(str(args[0]), host)


class Engines:
    """Engines by process and kind, kept over seeds: what SQLAlchemy compiled once serves every run."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], AsyncEngine] = {}
        self._make = dialect.sqlite_engine

    def engine(self, at: dialect.Address, *, writes: bool) -> AsyncEngine:
        """Return the engine of the running process, instead of a new one."""
        host: Any = OWNER.get()
        key = (host.name, writes)
        if key not in self._kept:
            self._kept[key] = self._made(at, writes=writes)
        engine = self._kept[key]
        engine.sync_engine.dispose(close=False)  # those of the process before are closed, and of another loop
        return engine

    def _made(self, at: dialect.Address, *, writes: bool) -> AsyncEngine:
        with patch.object(dialect, "SQLITE_PRAGMAS", FAST_PRAGMAS), patch.object(one_trip, "connect", _connected):
            return self._make(at, writes=writes)


@cache
def folder() -> Path:
    """Return this process's folder, in memory where there is one; it goes with the process."""
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
    path = folder() / "simulation.db"
    for suffix in FILES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(template(), path)
    return path
