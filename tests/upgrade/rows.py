"""Rows for any schema, to check that a migration keeps them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from service.storage import migration_steps
from service.storage.dialects import parse_address
from service.storage.migrate import VERSION_TABLE
from service.storage.migration_steps import MIGRATIONS

COUNT = 3
NOW = datetime(2026, 5, 6, 12, 9, 42, 123456, tzinfo=UTC)

Rows = dict[str, list[Mapping[str, Any]]]


def revisions() -> list[str]:
    """Return every revision, oldest first."""
    return [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


def engine(database_url: str) -> sa.Engine:
    """Return a plain engine for a test's database."""
    address = parse_address(database_url)
    if address.server is None:
        return sa.create_engine(address.sqlite_url.set(drivername="sqlite"))
    return sa.create_engine("postgresql+psycopg://", connect_args=dict(address.server.parameters))


def upgrade(at: sa.Engine, revision: str) -> None:
    """Migrate up to `revision`, in one transaction."""
    with at.begin() as connection:
        migration_steps.upgrade(connection, revision=revision)


def schema(at: sa.Engine) -> dict[str, sa.Table]:
    """Return every table but Alembic's own, as reflected from the database."""
    found = sa.MetaData()
    found.reflect(at)
    return {name: table for name, table in found.tables.items() if name != VERSION_TABLE}


def fill(at: sa.Engine, tables: Mapping[str, sa.Table], prefix: str) -> None:
    """Insert rows into each table that name only the columns in `tables`, like inserts of an older release."""
    with at.begin() as connection:
        for table in tables.values():
            connection.execute(sa.insert(table), [_row(table, prefix, number) for number in range(COUNT)])


def _row(table: sa.Table, prefix: str, number: int) -> dict[str, Any]:
    keys = list(table.primary_key)
    numbers = all(isinstance(each.type, sa.Integer) for each in keys)
    counted = {each.name for each in keys if numbers and len(keys) == 1}
    values = {each.name: _value(each, prefix, number) for each in table.columns if each.name not in counted}
    if numbers and len(keys) > 1:  # the key has no text that differs with the prefix
        values |= {each.name: crc32(prefix.encode()) + number for each in keys}
    return values


def _value(column: sa.Column[Any], prefix: str, number: int) -> object:
    column_type = column.type
    if isinstance(column_type, sa.Boolean):
        return bool(number % 2)
    if isinstance(column_type, sa.Integer | sa.Float | sa.Numeric):
        return number
    if isinstance(column_type, sa.DateTime):
        return NOW
    return (
        f"{prefix}-{column.name}-{number}".encode() if isinstance(column_type, sa.LargeBinary) else f"{prefix}-{number}"
    )


def rows(at: sa.Engine, tables: Mapping[str, sa.Table]) -> Rows:
    """Return the values in the columns of `tables`, sorted."""
    with at.connect() as connection:
        return {name: _sorted(connection, table) for name, table in tables.items()}


def _sorted(connection: sa.Connection, table: sa.Table) -> list[Mapping[str, Any]]:
    return sorted(map(dict, connection.execute(sa.select(table)).mappings()), key=str)
