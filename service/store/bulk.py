"""Many rows at once, at little cost for each: SQLAlchemy's general way takes five times as long on the hot path."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Processor = Callable[[Any], Any]


async def insert_many(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all name the same columns, in their order; one that collides with another is left out.

    SQLite runs one prepared statement for each of them, PostgreSQL takes whole columns as arrays.
    """
    if not rows:
        return
    names = tuple(rows[0])
    columns = _columns(connection, table, names, rows)
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(_from_arrays(table, names, connection.dialect), tuple(columns))
    else:
        await connection.exec_driver_sql(_one_by_one(table, names), list(zip(*columns, strict=True)))


async def update_many(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Change the rows of `table` that `rows` name by its one primary key; all of them name the same columns."""
    if not rows:
        return
    (key,) = table.primary_key.columns.keys()
    names = (*(name for name in rows[0] if name != key), key)
    columns = _columns(connection, table, names, rows)
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(_set_from_arrays(table, names, connection.dialect), tuple(columns))
    else:
        await connection.exec_driver_sql(_set_one_by_one(table, names), list(zip(*columns, strict=True)))


def _columns(
    connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[list[Any]]:
    """Return the values as the driver takes them, a list for each column."""
    processors = [_processor(table, name, connection.dialect) for name in names]
    return [[*map(process, [row[name] for row in rows])] for name, process in zip(names, processors, strict=True)]


@cache
def _processor(table: Table, name: str, dialect: Dialect) -> Processor:
    found: Processor | None = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
    return found or _unchanged


def _unchanged(value: Any) -> Any:
    return value


@cache
def _one_by_one(table: Table, names: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(names))
    into = _into(table, names, sqlite.dialect())
    return f"INSERT INTO {into} VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own names


@cache
def _from_arrays(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    arrays = _arrays(table, names, dialect)
    into = _into(table, names, dialect)
    return f"INSERT INTO {into} SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own names


@cache
def _set_one_by_one(table: Table, names: tuple[str, ...]) -> str:
    *changed, key = map(sqlite.dialect().identifier_preparer.quote, names)
    values = ", ".join(f"{name} = ?" for name in changed)
    return f"UPDATE {table.name} SET {values} WHERE {key} = ?"  # noqa: S608 - our own names


@cache
def _set_from_arrays(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    *changed, key = map(dialect.identifier_preparer.quote, names)
    values = ", ".join(f"{name} = new.{name}" for name in changed)
    arrays, columns = _arrays(table, names, dialect), ", ".join([*changed, key])
    return (
        f"UPDATE {table.name} AS old SET {values} FROM unnest({arrays}) AS new ({columns}) WHERE old.{key} = new.{key}"  # noqa: S608 - our own names
    )


def _arrays(table: Table, names: Sequence[str], dialect: Dialect) -> str:
    return ", ".join(f"%s::{table.c[name].type.compile(dialect)}[]" for name in names)


def _into(table: Table, names: Sequence[str], dialect: Dialect) -> str:
    quote = dialect.identifier_preparer.quote
    return f"{quote(table.name)} ({', '.join(map(quote, names))})"
