"""The few differences between SQLite and PostgreSQL, in one place."""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from sqlalchemy import URL, Connection, Table, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.domain.errors import BadSetting, StoreUnavailable
from service.storage import sqlite_thread as one_trip

CHANNEL = "boomerang"
MAX_TOPICS_PER_NOTIFY = 100  # a note may hold 8000 bytes
BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process that writes."""

SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -4096",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA temp_store = MEMORY",
)

POSTGRES_SETTINGS = (
    "SET statement_timeout = '60s'",
    "SET lock_timeout = '20s'",
    "SET idle_in_transaction_session_timeout = '60s'",
    "SET timezone = 'UTC'",
)
KEEPALIVES: dict[str, Any] = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

Item = TypeVar("Item")
Insert = sqlite.Insert | postgresql.Insert


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the database is: its kind, and the URL with our driver in it."""

    url: URL

    @property
    def postgres(self) -> bool:
        """Whether this is PostgreSQL; otherwise it is SQLite."""
        return self.url.get_backend_name() == "postgresql"

    @property
    def path(self) -> Path:
        """Return the file of an SQLite database."""
        return Path(self.url.database or "")


def parse_address(database_url: str) -> Address:
    """Return where `database_url` points to; raises BadSetting for what is neither SQLite nor PostgreSQL."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise BadSetting("DATABASE_URL is no address; use sqlite:///boomerang.db or postgresql://...") from None
    scheme = url.drivername.partition("+")[0]
    if scheme in {"postgres", "postgresql"}:
        _need_psycopg()
        return Address(url=url.set(drivername="postgresql+psycopg"))
    if scheme == "sqlite" and url.database and url.database != ":memory:":
        return Address(url=url.set(drivername="sqlite+aiosqlite"))
    raise BadSetting("DATABASE_URL must begin with sqlite:/// and name a file, or with postgresql://")


def _need_psycopg() -> None:
    try:
        import psycopg  # noqa: F401, PLC0415 - an extra, asked for only when it is needed
    except ImportError as error:
        raise BadSetting(
            "DATABASE_URL names PostgreSQL, whose driver is not installed: the extra `postgres` is missing; "
            "pip install -r requirements.txt brings it"
        ) from error


def sqlite_engine(at: Address, *, writes: bool) -> AsyncEngine:
    """Return an engine for the file: one connection that writes, or a few that only read."""
    engine = create_async_engine(
        at.url,
        connect_args={
            "isolation_level": None,
            "async_creator_fn": one_trip.connect,
            "cached_statements": 512,  # the driver's own 128 are fewer than our statements in all their sizes
        },
        pool_size=1 if writes else 3,
        pool_reset_on_return=None,  # every transaction here ends itself: one trip less
        max_overflow=0,
        pool_timeout=30,
        hide_parameters=True,
    )
    pragmas = (*SQLITE_PRAGMAS, f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    begin = one_trip.BEGIN_WRITING if writes else "BEGIN"  # the driver's own transaction handling is off

    def connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    def began(connection: Connection) -> None:
        driver: one_trip.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        driver.begin_before_next(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", began)
    return engine


def postgres_engine(at: Address) -> AsyncEngine:
    """Return an engine for PostgreSQL with a modest pool; statements end after a minute at the latest."""
    engine = create_async_engine(
        at.url,
        connect_args={"connect_timeout": 10, "application_name": "boomerang", **KEEPALIVES},
        pool_size=8,
        max_overflow=2,
        pool_timeout=15,
        pool_pre_ping=True,
        hide_parameters=True,
    )

    def connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(";".join(POSTGRES_SETTINGS))  # not as start-up options, which connection poolers refuse
        cursor.close()
        connection.commit()

    event.listen(engine.sync_engine, "connect", connected)
    return engine


def prepare_file(path: Path) -> os.stat_result:
    """Create the SQLite file with mode 0600 when it is missing, set its journal to WAL, and return what file it is.

    Raises StoreUnavailable when that cannot be done. Two processes may do it at once.
    """
    try:
        path.touch(mode=0o600, exist_ok=True)
        _use_wal(path)
        return path.stat()
    except (OSError, sqlite3.Error) as error:
        reason = "its directory is missing" if isinstance(error, FileNotFoundError) else _said(error)
        raise StoreUnavailable(f"the database file {path} cannot be used: {reason}") from error


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def same_file(path: Path, file: os.stat_result) -> bool:
    """Return whether `path` still names `file`."""
    try:
        return os.path.samestat(path.stat(), file)
    except OSError:
        return False


def _use_wal(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT)
    try:
        deadline = time.monotonic() + BUSY_TIMEOUT
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            _try_wal(connection, deadline)
    finally:
        connection.close()


def _try_wal(connection: sqlite3.Connection, deadline: float) -> None:
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError:  # the switch itself does not wait for others
        if time.monotonic() > deadline:
            raise
        time.sleep(0.02)


def insert(connection: AsyncConnection, table: Table) -> Insert:
    """Return an insert into `table` that knows ON CONFLICT in the connection's dialect."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


async def advisory_lock(connection: AsyncConnection, what: str) -> None:
    """Hold others that ask for `what` until this transaction ends; on SQLite every write is alone anyway."""
    if connection.dialect.name == "postgresql":
        key = crc32(f"boomerang {what}".encode())
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


async def send_notifications(connection: AsyncConnection, topics: Iterable[str]) -> None:
    """Tell other processes of `topics` when this transaction commits; SQLite has nobody to tell."""
    if connection.dialect.name != "postgresql":
        return
    notes = [
        {"channel": CHANNEL, "note": json.dumps(some)} for some in _chunks(sorted(set(topics)), MAX_TOPICS_PER_NOTIFY)
    ]
    if notes:
        await connection.execute(text("SELECT pg_notify(:channel, :note)"), notes)


async def insert_and_commit(connection: AsyncConnection, insertion: tuple[str, Any], topic: str) -> None:
    """Run an insertion as a transaction of its own, in one trip, and tell other processes of `topic`."""
    statement, values = insertion
    if connection.dialect.name == "postgresql":
        alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
        told = f"WITH done AS ({statement}) SELECT pg_notify(%s, %s)"
        await alone.exec_driver_sql(told, (*values, CHANNEL, json.dumps([topic])))
        return
    driver: one_trip.Connection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
    try:
        await driver.insert_and_commit(statement, values)
    except sqlite3.Error as error:
        lost: Any = error
        if connection.dialect.is_disconnect(lost, None, None):
            await connection.invalidate()  # the next one gets another
        raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error


def _chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Yield `items` in lists of at most `size`."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
