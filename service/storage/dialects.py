"""Differences between SQLite and PostgreSQL: addresses, engines, locks and notifications."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

from sqlalchemy import URL, Table, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.domain.errors import BadSetting
from service.storage import sqlite_driver

CHANNEL = "boomerang"
MAX_TOPICS_PER_NOTIFY = 100  # a payload has at most 8000 bytes
POSTGRES_SETTINGS = (
    "SET statement_timeout = '60s'",
    "SET lock_timeout = '20s'",
    "SET idle_in_transaction_session_timeout = '60s'",
    "SET timezone = 'UTC'",
)
KEEPALIVES: dict[str, Any] = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

Insert = sqlite.Insert | postgresql.Insert


@dataclass(frozen=True, kw_only=True)
class Address:
    """The address of the database: a URL that names the driver."""

    url: URL

    @cached_property
    def postgres(self) -> bool:
        """Whether this is PostgreSQL; otherwise it is SQLite."""
        return self.url.get_backend_name() == "postgresql"

    @cached_property
    def path(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.url.database or "")


def parse_address(database_url: str) -> Address:
    """Return the address in `database_url`; raises BadSetting unless it names SQLite or PostgreSQL."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        raise BadSetting("DATABASE_URL is not an address; use sqlite:///boomerang.db or postgresql://...") from None
    scheme = url.drivername.partition("+")[0]
    if scheme in {"postgres", "postgresql"}:
        _require_psycopg()
        return Address(url=url.set(drivername="postgresql+psycopg"))
    if scheme == "sqlite" and url.database and url.database != ":memory:":
        return Address(url=url.set(drivername="sqlite+aiosqlite"))
    raise BadSetting("DATABASE_URL must begin with sqlite:/// and name a file, or with postgresql://")


def _require_psycopg() -> None:
    try:
        import psycopg  # noqa: F401, PLC0415 - an optional extra, needed only for PostgreSQL
    except ImportError as error:
        raise BadSetting(
            "DATABASE_URL names PostgreSQL, whose driver is not installed: the extra `postgres` is missing; "
            "pip install -r requirements.txt brings it"
        ) from error


def postgres_engine(at: Address) -> AsyncEngine:
    """Return an engine for PostgreSQL with at most ten connections; statements are limited to 60 seconds."""
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
        cursor.execute(";".join(POSTGRES_SETTINGS))  # connection poolers refuse start-up options
        cursor.close()
        connection.commit()

    event.listen(engine.sync_engine, "connect", connected)
    return engine


def insert(connection: AsyncConnection, table: Table) -> Insert:
    """Return an insert into `table` that supports ON CONFLICT in the dialect of the connection."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


async def advisory_lock(connection: AsyncConnection, name: str) -> None:
    """Lock `name` until this transaction ends; not needed on SQLite, which has one writer at a time."""
    if connection.dialect.name == "postgresql":
        key = crc32(f"boomerang {name}".encode())
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


async def send_notifications(connection: AsyncConnection, topics: Iterable[str]) -> None:
    """Notify other processes of `topics` when this transaction commits; for PostgreSQL only."""
    names = sorted(topics)
    chunks = [names[start : start + MAX_TOPICS_PER_NOTIFY] for start in range(0, len(names), MAX_TOPICS_PER_NOTIFY)]
    if chunks:
        payloads = [{"channel": CHANNEL, "payload": json.dumps(chunk)} for chunk in chunks]
        await connection.execute(text("SELECT pg_notify(:channel, :payload)"), payloads)


async def insert_and_commit(connection: AsyncConnection, insertion: tuple[str, Any], topic: str) -> None:
    """Run an insertion as its own transaction in one call of the driver, and notify other processes of `topic`."""
    statement, values = insertion
    if connection.dialect.name == "postgresql":
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        with_notification = f"WITH done AS ({statement}) SELECT pg_notify(%s, %s)"
        await autocommit.exec_driver_sql(with_notification, (*values, CHANNEL, json.dumps([topic])))
        return
    driver: sqlite_driver.Connection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
    try:
        await driver.insert_and_commit(statement, values)
    except sqlite3.Error as error:
        driver_error: Any = error
        if connection.dialect.is_disconnect(driver_error, None, None):
            await connection.invalidate()  # the pool then opens another connection
        raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error
