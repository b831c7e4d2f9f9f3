"""Migration of a database to the newest schema; may run twice, and in two processes at the same time."""

import asyncio
import re
import sqlite3
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import structlog
from sqlalchemy import Connection, inspect, text

from service.domain.errors import BadSetting, StoreUnavailable
from service.storage.database import Database
from service.storage.dialects import advisory_lock, parse_address
from service.storage.index_builds import SINCE, build_indexes
from service.storage.local_signals import LocalSignals

HEAD = "0018"
"""The schema version that this code needs: the newest file in `migrations/versions`."""

VERSION_TABLE = "alembic_version"
VERSION = "SELECT version_num FROM alembic_version"
TABLES_OF_FILE = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
SCHEMA = "SELECT current_schema(), current_setting('search_path')"
TABLES_OF_SCHEMA = """
    SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = :schema AND relkind IN ('r', 'p') AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
    )
"""
OUR_VERSION = re.compile(r"[0-9]{4}")

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"
"""PostgreSQL: while a migration waits for a table, all later statements about it wait behind the migration."""

LOCK_TRIES = 60
LOCK_PAUSE = 0.5
"""Seconds between two tries to migrate beside running processes."""

LOCK_ERRORS = frozenset({"40P01", "55P03"})
"""PostgreSQL: deadlock detected, lock not available."""

log = structlog.get_logger("boomerang.storage")


async def migrate(database_url: str) -> None:
    """Bring the database at `database_url` to the newest schema, in one transaction.

    On PostgreSQL, indexes of tables with rows are built before it, which blocks nobody.

    Raises BadSetting for an invalid address, and for a database of a newer release or of another application, both of
    which it does not change. Raises StoreUnavailable if the database cannot be written.

    Processes of the previous release may run: the migration waits shortly for their transactions, and tries again.
    """
    address = parse_address(database_url)
    if not address.postgres:
        refuse_foreign_file(address.path)
    database = Database(database_url, LocalSignals())
    try:
        if address.server and await _lacks_indexes(database):
            await build_indexes(address.server)
        for left in reversed(range(LOCK_TRIES)):
            try:
                return await _migrate(database)
            except StoreUnavailable as error:
                if not left or getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) not in LOCK_ERRORS:
                    raise
            log.info("migration waits for running transactions")
            await asyncio.sleep(LOCK_PAUSE)
    finally:
        await database.close()


async def _migrate(database: Database) -> None:
    async with database.writing() as write:  # on SQLite, this makes a second migration wait
        await advisory_lock(write.connection, "migration")
        if write.connection.dialect.name == "postgresql":
            await write.connection.exec_driver_sql(LOCK_TIMEOUT)
        await write.connection.run_sync(_upgrade)


async def _lacks_indexes(database: Database) -> bool:
    """Return whether this is an own database from before the indexes that are built beside running processes."""
    async with database.reading() as connection:
        return await connection.run_sync(_is_before_indexes)


def _is_before_indexes(connection: Connection) -> bool:
    if not {"tasks", VERSION_TABLE} <= set(tables_of(connection, own_schema(connection))):
        return False
    version = connection.execute(text(VERSION)).scalar()
    return version is not None and bool(OUR_VERSION.fullmatch(version)) and version < SINCE


def is_newer(version: str | None) -> bool:
    """Return whether the schema version is that of a newer release."""
    return version is not None and bool(OUR_VERSION.fullmatch(version)) and version > HEAD


def refuse_foreign_file(path: Path, *, newer: bool = False) -> None:
    """Check an SQLite file before it is opened for writing, which already changes its journal.

    Raises BadSetting for a file of another application and, unless `newer`, of a newer release.
    """
    if not path.is_file():
        return
    with (
        suppress(sqlite3.Error),  # opening it for writing reports a file that is unreadable or not a database
        closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection,
    ):
        tables = {name for (name,) in connection.execute(TABLES_OF_FILE)}
        found = connection.execute(VERSION) if VERSION_TABLE in tables else ()
        refuse_foreign(tables, next((version for (version,) in found), None), newer=newer)


def refuse_foreign(tables: Collection[str], version: str | None, *, newer: bool = False) -> None:
    """Raise BadSetting for a database of another application and, unless `newer`, of a newer release."""
    if newer and is_newer(version):
        return
    if version is not None and version <= HEAD and OUR_VERSION.fullmatch(version):
        return
    if is_newer(version):
        raise BadSetting(
            f"DATABASE_URL names a database with schema {version}, which a newer release has made; "
            f"this one knows {HEAD} at most: start the newer release, or name another database"
        )
    if version is not None or set(tables) - {VERSION_TABLE}:
        raise BadSetting("DATABASE_URL names a database that holds something else: give Boomerang one of its own")


def _upgrade(connection: Connection) -> None:
    schema = own_schema(connection) if connection.dialect.name == "postgresql" else None
    tables = tables_of(connection, schema) if schema else inspect(connection).get_table_names()
    versions = list(connection.execute(text(VERSION)).scalars()) if VERSION_TABLE in tables else []
    refuse_foreign(tables, ", ".join(versions) or None)
    if versions == [HEAD]:
        return
    from service.storage.migration_steps import upgrade  # noqa: PLC0415 - Alembic doubles the time of a start

    upgrade(connection, schema)


def own_schema(connection: Connection) -> str:
    """Return the schema in which PostgreSQL creates our tables; raises BadSetting if there is none."""
    schema, search_path = connection.execute(text(SCHEMA)).one()
    if schema is None:
        raise BadSetting(
            f"no schema of the search path {search_path} exists in the database: create it with CREATE SCHEMA, "
            "or name another in DATABASE_URL with ?schema=NAME"
        )
    return str(schema)


def tables_of(connection: Connection, schema: str) -> list[str]:
    """Return the tables of a schema, except those of extensions. Those in other schemas do not collide with ours."""
    return list(connection.execute(text(TABLES_OF_SCHEMA), {"schema": schema}).scalars())
