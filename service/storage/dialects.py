"""Differences between SQLite and PostgreSQL: addresses, locks, inserts and notifications."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from sqlalchemy import URL, Table, make_url, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from service.domain.errors import BadSetting
from service.storage import sqlite_driver
from service.storage.async_engine import AsyncConnection
from service.storage.deferred import Deferred, defer

if TYPE_CHECKING:  # the first takes long to import, the second needs the optional driver
    from sqlalchemy.dialects import postgresql

    from service.storage.pg_address import PostgresAddress

CHANNEL = "boomerang"
MAX_TOPICS_PER_NOTIFY = 100  # a payload has at most 8000 bytes

Start = Callable[[], AbstractAsyncContextManager[AsyncConnection]]
"""Takes a connection of an engine, and gives it back at the end."""

NO_FILE = URL.create("sqlite+aiosqlite")


@dataclass(frozen=True, kw_only=True)
class Address:
    """The address of the database: a PostgreSQL server, or else the file of an SQLite database."""

    server: "PostgresAddress | None" = None
    sqlite_url: URL = NO_FILE

    @property
    def postgres(self) -> bool:
        """Whether this is PostgreSQL; otherwise it is SQLite."""
        return self.server is not None

    @cached_property
    def path(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.sqlite_url.database or "")


def parse_address(database_url: str, name: str = "DATABASE_URL") -> Address:
    """Return the address in `database_url`; raises BadSetting with the setting's `name` unless it can be used."""
    scheme = database_url.partition("://")[0].partition("+")[0].lower()
    if scheme in {"postgres", "postgresql"}:
        _require_psycopg()
        from service.storage.pg_address import parse_postgres_address  # noqa: PLC0415 - needs the optional driver

        return Address(server=parse_postgres_address(database_url, name))
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        raise BadSetting(f"{name} is not an address; use sqlite:///boomerang.db or postgresql://...") from None
    if scheme == "sqlite" and url.database and url.database != ":memory:":
        return Address(sqlite_url=url.set(drivername="sqlite+aiosqlite"))
    raise BadSetting(f"{name} must begin with sqlite:/// and name a file, or with postgresql://")


def _require_psycopg() -> None:
    try:
        import psycopg  # noqa: F401, PLC0415 - an optional extra, needed only for PostgreSQL
    except ImportError as error:
        raise BadSetting(
            "DATABASE_URL names PostgreSQL, whose driver is not installed: the extra `postgres` is missing; "
            "pip install -r requirements.txt brings it"
        ) from error


def insert(connection: AsyncConnection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """Return an insert into `table` that supports ON CONFLICT in the dialect of the connection."""
    return insert_into(table, connection.dialect.name)


def insert_into(table: Table, dialect: str) -> "sqlite.Insert | postgresql.Insert":
    """Return an insert into `table` that supports ON CONFLICT in the dialect of this name."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - its import is slow, and SQLite needs none of it

        return postgresql.insert(table)
    return sqlite.insert(table)


async def advisory_lock(connection: AsyncConnection, name: str, *, shared: bool = False) -> None:
    """Lock `name` until this transaction ends; not needed on SQLite, which has one writer at a time.

    Locks that are `shared` exclude only others that are not.
    """
    if connection.dialect.name == "postgresql":
        key, kind = crc32(f"boomerang {name}".encode()), "_shared" if shared else ""
        defer(connection, Deferred(statement=f"SELECT pg_advisory_xact_lock{kind}(%s)", parameters=(key,)))


async def lock_if_free(connection: AsyncConnection, name: str) -> bool:
    """Lock `name` until this transaction ends unless another one has it; return whether this one has it."""
    if connection.dialect.name != "postgresql":
        return True
    key = crc32(f"boomerang {name}".encode())
    return bool((await connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key})).scalar())


async def allow_whole_tables(connection: AsyncConnection) -> None:
    """Let the statements of this transaction read whole tables without an index, as a count of all rows should."""
    if connection.dialect.name == "postgresql":
        for method in ("seqscan", "hashjoin", "mergejoin", "material"):
            await connection.execute(text(f"SET LOCAL enable_{method} = on"))


def prefer_order_of_indexes(connection: AsyncConnection) -> None:
    """Let the statements of this transaction read an index in its order, where another one needs a sort.

    PostgreSQL plans with the number of rows at the last ANALYZE. If a queue was empty then, all of its indexes seem
    equally good. One in the order of the query is read up to its LIMIT, another one from the first row to the last.
    A connection keeps the plan of a prepared statement: each transaction with the same statement has to call this.
    """
    if connection.dialect.name == "postgresql":
        defer(connection, Deferred(statement="SET LOCAL enable_sort = off"))


async def send_notifications(connection: AsyncConnection, topics: Iterable[str]) -> None:
    """Notify other processes of `topics` when this transaction commits; for PostgreSQL only."""
    names = sorted(topics)
    chunks = [names[start : start + MAX_TOPICS_PER_NOTIFY] for start in range(0, len(names), MAX_TOPICS_PER_NOTIFY)]
    for chunk in chunks:
        notification = Deferred(statement="SELECT pg_notify(%s, %s)", parameters=(CHANNEL, json.dumps(chunk)))
        defer(connection, notification)


async def insert_and_commit(connection: AsyncConnection, insertion: tuple[str, Any], topic: str) -> None:
    """Run an insertion as its own transaction in one call of the driver, and notify other processes of `topic`."""
    statement, values = insertion
    if connection.dialect.name == "postgresql":
        with_notification = f"WITH done AS ({statement}) SELECT pg_notify(%s, %s)"
        await connection.exec_driver_sql(with_notification, (*values, CHANNEL, json.dumps([topic])))
        await connection.commit()  # without a call of the server, where the session commits by itself
        return
    driver: sqlite_driver.Connection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
    try:
        await driver.insert_and_commit(statement, values)
    except sqlite3.Error as error:
        driver_error: Any = error
        if connection.dialect.is_disconnect(driver_error, None, None):
            await connection.invalidate()  # the pool then opens another connection
        raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error
