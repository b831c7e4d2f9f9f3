"""Many rows at once, at little cost for each: SQLAlchemy's general way takes several times as long on the hot path.

SQLite runs prepared statements for some rows each. PostgreSQL takes all of them as one JSON text, which costs a
fraction of what its driver needs for an array or a parameter each, and makes a table of them (`json_to_recordset`).
Bytes double on that way: large blobs are not for here.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Dialect, LargeBinary, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from service.storage.column_types import JsonText, SafeText, encode_json, storable_text
from service.storage.sqlite_thread import REPEATED
from service.storage.tables import inputs

CACHE_SIZE = 512
"""Columns and statements remembered: an engine has a dialect of its own, which a boundless cache would keep alive."""

Rows = Sequence[Mapping[str, Any]]
Processor = Callable[[Any], Any]


async def insert_many(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    """Insert `rows`, which all name the same columns, in their order; one that collides with another is left out."""
    if rows:
        await connection.exec_driver_sql(*insertion(connection.dialect, table, rows))


def insertion(dialect: Dialect, table: Table, rows: Rows) -> tuple[str, Any]:
    """Return the statement that inserts `rows` as `insert_many` says, and its parameters: on SQLite a set for each."""
    names = tuple(rows[0])
    if dialect.name == "postgresql":
        return _insert_records(table, names, dialect), (_as_json(dialect, table, names, rows),)
    return _insert_one(table, names), _as_tuples(dialect, table, names, rows)


async def update_many(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    """Change the rows of `table` that `rows` name by its one primary key; all of them name the same columns."""
    if not rows:
        return
    (key,) = table.primary_key.columns.keys()
    names = (*(name for name in rows[0] if name != key), key)
    if connection.dialect.name == "postgresql":
        values = _as_json(connection.dialect, table, names, rows)
        await connection.exec_driver_sql(_update_records(table, names, connection.dialect), (values,))
    else:
        await connection.exec_driver_sql(_update_one(table, names), _as_tuples(connection.dialect, table, names, rows))


# ── values ───────────────────────────────────────────────────────────────────


def _as_tuples(dialect: Dialect, table: Table, names: Sequence[str], rows: Rows) -> list[tuple[Any, ...]]:
    processors = [_processor(table, name, dialect) for name in names]
    columns = [map(process, [row[name] for row in rows]) for name, process in zip(names, processors, strict=True)]
    return list(zip(*columns, strict=True))


def _as_json(dialect: Dialect, table: Table, names: Sequence[str], rows: Rows) -> str:
    return ENCODER.encode([dict(zip(names, row, strict=True)) for row in _as_tuples(dialect, table, names, rows)])


def _as_input(value: object) -> str:
    """Return what JSON has no type for as PostgreSQL reads it from text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"no column holds a {type(value).__name__}")


ENCODER = json.JSONEncoder(default=_as_input, separators=(",", ":"))


@lru_cache(CACHE_SIZE)
def _processor(table: Table, name: str, dialect: Dialect) -> Processor:
    kind = table.c[name].type
    if isinstance(kind, LargeBinary):
        return _unchanged
    if isinstance(kind, SafeText):
        return storable_text
    if isinstance(kind, JsonText):
        return encode_json
    return kind.dialect_impl(dialect).bind_processor(dialect) or _unchanged


def _unchanged(value: Any) -> Any:
    return value


# ── statements, all of them made of our own names ────────────────────────────


@cache
def _insert_one(table: Table, names: tuple[str, ...]) -> str:
    columns, marks = ", ".join(_quoted(names, sqlite.dialect())), ", ".join("?" * len(names))
    each = "" if table is inputs else REPEATED  # whose blobs the driver would copy all at once
    return f"INSERT INTO {table.name} ({columns}) VALUES {each}({marks}) ON CONFLICT DO NOTHING"  # noqa: S608


@lru_cache(CACHE_SIZE)
def _insert_records(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    columns, records = ", ".join(_quoted(names, dialect)), _records(table, names, dialect)
    return f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {records} ON CONFLICT DO NOTHING"  # noqa: S608


@cache
def _update_one(table: Table, names: tuple[str, ...]) -> str:
    *changed, key = _quoted(names, sqlite.dialect())
    values = ", ".join(f"{name} = new.column{place}" for place, name in enumerate(changed, 1))
    new = f"(VALUES {REPEATED}({', '.join('?' * len(names))})) AS new"
    return f"UPDATE {table.name} AS old SET {values} FROM {new} WHERE old.{key} = new.column{len(names)}"  # noqa: S608


@lru_cache(CACHE_SIZE)
def _update_records(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    *changed, key = _quoted(names, dialect)
    values, records = ", ".join(f"{name} = new.{name}" for name in changed), _records(table, names, dialect)
    return f"UPDATE {table.name} AS old SET {values} FROM {records} WHERE old.{key} = new.{key}"  # noqa: S608


def _records(table: Table, names: Sequence[str], dialect: Dialect) -> str:
    kinds = [table.c[name].type.compile(dialect) for name in names]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(_quoted(names, dialect), kinds, strict=True))
    return f"json_to_recordset(%s::json) AS new ({columns})"


def _quoted(names: Sequence[str], dialect: Dialect) -> list[str]:
    return [dialect.identifier_preparer.quote(name) for name in names]
