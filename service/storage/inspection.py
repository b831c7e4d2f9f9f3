"""Inspection of a database for `boomerang doctor`: a read, and a write that is rolled back. Nothing is changed."""

import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import quote

from anyio.to_thread import run_sync
from sqlalchemy import Connection, NullPool, create_engine, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from service.domain.errors import StoreUnavailable
from service.domain.ports.process_registry import ProcessKeys
from service.storage.database import Database
from service.storage.dialects import parse_address
from service.storage.health import PROBE_ROW
from service.storage.local_signals import LocalSignals
from service.storage.migrate import (
    HEAD,
    VERSION,
    VERSION_TABLE,
    own_schema,
    refuse_foreign,
    refuse_foreign_file,
    tables_of,
)
from service.storage.process_tables import last_runs, processes
from service.storage.tables import polls

CONNECTIONS = 4
BUSY_TIMEOUT = 3.0
"""Seconds to wait for another process that writes."""

NEW_TABLE = "CREATE TABLE boomerang_doctor (number INTEGER)"
RECONCILE = "reconcile"
"""The name of single passes in `last_runs`."""


@dataclass(frozen=True, kw_only=True)
class DatabaseState:
    """A database that can be used: its schema version, None where it has none yet, and what the code needs.

    `now` is the time at the server, None for SQLite, which has no clock of its own. `made` is False for an SQLite file
    that is not there yet. With the newest schema there are the registered `processes` that have ended or run, and when
    the last single pass was made, None for never.
    """

    version: str | None
    needed: str = HEAD
    now: datetime | None = None
    made: bool = True
    processes: tuple[ProcessKeys, ...] = ()
    last_pass: datetime | None = None


async def inspect_database(database_url: str) -> DatabaseState:
    """Return the state of the database; raises StoreUnavailable, BadSetting or SchemaBehind with the reason."""
    address = parse_address(database_url)
    if not address.postgres:
        return await run_sync(_inspect_file, address.path)
    database = Database(database_url, LocalSignals(), connections=CONNECTIONS)
    try:
        async with database.reading() as connection:
            now: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
            state = await connection.run_sync(_read_postgres)
        await _try_writing(database, state.version)
        return replace(state, now=now)
    finally:
        await database.close()


def _read_postgres(connection: Connection) -> DatabaseState:
    tables = tables_of(connection, own_schema(connection))
    versions = list(connection.execute(text(VERSION)).scalars()) if VERSION_TABLE in tables else []
    refuse_foreign(tables, ", ".join(versions) or None, newer=True)
    return _read(connection, versions[0] if versions else None)


def _read(connection: Connection, version: str | None) -> DatabaseState:
    if version != HEAD:
        return DatabaseState(version=version)
    rows = connection.execute(select(processes)).mappings()
    found = tuple(ProcessKeys(**{**row, "fingerprints": ()}) for row in rows)
    last_pass = connection.execute(select(last_runs.c.at).where(last_runs.c.name == RECONCILE)).scalar()
    return DatabaseState(version=version, processes=found, last_pass=last_pass)


async def _try_writing(database: Database, version: str | None) -> None:
    """Insert a row, or make a table in an empty database, and roll back; raises StoreUnavailable."""
    async with database.writing() as write:
        if version is None:
            await write.connection.execute(text(NEW_TABLE))
        else:
            await write.connection.execute(insert(polls), PROBE_ROW)
        await write.connection.rollback()


def _inspect_file(path: Path) -> DatabaseState:
    if not path.exists():
        _check_directory(path)
        return DatabaseState(version=None, made=False)
    refuse_foreign_file(path, newer=True)
    uri = f"file:{quote(str(path))}?mode=rw"  # never creates the file
    connect = partial(sqlite3.connect, uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT)
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return _inspect_connection(connection)
    except DBAPIError as error:
        raise StoreUnavailable(f"the database file {path} cannot be used: {error.orig}") from error


def _inspect_connection(connection: Connection) -> DatabaseState:
    tables = inspect(connection).get_table_names()
    versions = list(connection.execute(text(VERSION)).scalars()) if VERSION_TABLE in tables else []
    state = _read(connection, str(versions[0]) if versions else None)
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        if versions:
            connection.execute(insert(polls), PROBE_ROW)
        else:
            connection.execute(text(NEW_TABLE))
    finally:
        connection.exec_driver_sql("ROLLBACK")
    return state


def _check_directory(path: Path) -> None:
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = "its directory is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise StoreUnavailable(f"the database file {path} cannot be made: {reason}") from error


async def notifications_arrive(database_url: str, listen_url: str | None) -> bool:
    """Return whether a process that listens at `listen_url`, or else at `database_url`, gets notifications.

    True for SQLite, which has none. Takes 5 seconds where they do not arrive. Raises StoreUnavailable.
    """
    if not parse_address(database_url).postgres:
        return True
    import psycopg  # noqa: PLC0415 - an extra

    from service.storage.pg_listener import Unheard, check_listening  # noqa: PLC0415 - needs the driver of an extra

    database = Database(database_url, LocalSignals(), connections=CONNECTIONS, listen_url=listen_url)
    try:
        await check_listening(database)
    except Unheard:
        return False
    except (psycopg.Error, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"no connection that listens: {' '.join(str(error).split())}") from error
    finally:
        await database.close()
    return True
