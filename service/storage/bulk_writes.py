"""Inserts and updates of many rows, without the cost of SQLAlchemy's parameter handling for each row.

SQLite runs prepared statements for several rows each. PostgreSQL takes all rows as one JSON text, which costs less than
an array or a parameter for each value, and reads it as a table (`json_to_recordset`). Bytes double in that text: do not
write large blobs to PostgreSQL this way.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache, partial
from operator import itemgetter
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Column, ColumnElement, Dialect, LargeBinary, Table, false
from sqlalchemy.dialects import sqlite

from service.storage.async_engine import AsyncConnection
from service.storage.column_types import JsonText, SafeText, UtcDateTime, encode_json, storable_texts, storable_times
from service.storage.deferred import Deferred, defer
from service.storage.sqlite_driver import REPEATED
from service.storage.tables import input_data, inputs

CACHE_SIZE = 512
"""Entries of each cache: an engine has its own dialect, which an unbounded cache would keep alive."""

UPDATED_AT_ONCE = 100
"""Rows of one update on PostgreSQL, which looks for each among the values of all."""

BLOB_TABLES = frozenset({inputs, input_data})

NEVER = false()

Rows = Sequence[Mapping[str, Any]]
Computed = tuple[tuple[str, ColumnElement[Any]], ...]
"""Columns with the expressions that compute them."""

Processor = Callable[[list[Any]], list[Any]]
"""Converts the values of one column in all rows: a call for each value would take longer than storing it."""


async def insert_many(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    """Insert `rows`, which all name the same columns, in their order; skip rows that collide with existing ones.

    They are inserted with the next statement of the transaction, or its COMMIT; see `service.storage.deferred`.
    """
    if not rows:
        return
    statement, parameters = insertion(connection.dialect, table, rows)
    _defer(connection, statement, parameters)


def insertion(dialect: Dialect, table: Table, rows: Rows, unless: ColumnElement[bool] | None = None) -> tuple[str, Any]:
    """Return the statement of `insert_many` and its parameters: on SQLite one set for each row.

    Rows for which the condition `unless` holds are skipped. In it, `new` is the table of the rows.
    """
    names = tuple(rows[0])
    if unless is not None:
        return _insert_selected(table, names, dialect, unless=unless), _parameters(dialect, table, names, rows)
    if dialect.name == "postgresql":
        return _insert_records(table, names, dialect), _parameters(dialect, table, names, rows)
    return _insert_one(table, names), _parameters(dialect, table, names, rows)


async def update_many(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    """Update the rows of `table` that `rows` name by its single primary key; all of them name the same columns.

    They are updated with the next statement of the transaction, or its COMMIT.
    """
    if not rows:
        return
    (key,) = table.primary_key.columns.keys()
    names = (*[name for name in rows[0] if name != key], key)
    if connection.dialect.name == "postgresql":
        statement = _update_records(table, names, connection.dialect)
        values = _as_tuples(connection.dialect, table, names, rows)
        for first in range(0, len(values), UPDATED_AT_ONCE):
            part = values[first : first + UPDATED_AT_ONCE]
            _defer(connection, statement, (_records_json(names, part), [row[-1] for row in part]))
    else:
        _defer(connection, _update_one(table, names), _as_tuples(connection.dialect, table, names, rows))


def insert_and_return(
    connection: AsyncConnection, column: Column[Any], rows: Rows, *, unless: ColumnElement[bool] = NEVER
) -> Deferred | None:
    """Insert as `insert_many` does, but for rows to which `unless` applies; its rows are what was inserted of `column`.

    They are there after the next statement; None without rows to insert.
    """
    if not rows:
        return None
    statement, parameters = insertion(connection.dialect, column.table, rows, unless)
    return _defer(connection, f"{statement} RETURNING {column.name}", parameters, returns=True)


def insert_computed(
    connection: AsyncConnection, table: Table, rows: Rows, computed: Computed, *, returning: str
) -> Deferred:
    """Insert as `insert_many` does, with columns that the database computes; its rows are `returning` of the new ones.

    A computed column replaces the value that a row has for it, which is `new` in its expression: `new.name`. The
    expression may read the table itself, but not rows that the same call inserts.
    """
    names, dialect = tuple(rows[0]), connection.dialect
    statement = f"{_insert_selected(table, names, dialect, computed)} RETURNING {returning}"
    return _defer(connection, statement, _parameters(dialect, table, names, rows), returns=True)


def _parameters(dialect: Dialect, table: Table, names: tuple[str, ...], rows: Rows) -> Any:
    """Return the rows as an insertion takes them."""
    if dialect.name == "postgresql":
        return (_as_json(dialect, table, names, rows),)
    return _as_tuples(dialect, table, names, rows)


def _defer(connection: AsyncConnection, statement: str, parameters: Any, *, returns: bool = False) -> Deferred:
    many = connection.dialect.name != "postgresql"
    return defer(connection, Deferred(statement=statement, parameters=parameters, many=many, returns=returns))


# ── values ───────────────────────────────────────────────────────────────────


def _as_tuples(dialect: Dialect, table: Table, names: tuple[str, ...], rows: Rows) -> list[tuple[Any, ...]]:
    """Return the values of `names` in each row as the driver takes them, converted column by column."""
    columns: list[list[Any]] = []
    for get, process in _readers(table, names, dialect):
        values = [*map(get, rows)]
        columns.append(process(values) if process else values)
    return list(zip(*columns, strict=True))


def _as_json(dialect: Dialect, table: Table, names: tuple[str, ...], rows: Rows) -> str:
    """Return the values as one JSON text."""
    return _records_json(names, _as_tuples(dialect, table, names, rows))


def _records_json(names: tuple[str, ...], values: list[tuple[Any, ...]]) -> str:
    """Return one JSON object for each tuple; times are in it as RFC 3339."""
    return to_json([dict(zip(names, row, strict=True)) for row in values]).decode()


def _hexadecimal(values: list[bytes | None]) -> list[str | None]:
    """Return bytes as the text that PostgreSQL reads."""
    return [None if value is None else f"\\x{value.hex()}" for value in values]


@lru_cache(CACHE_SIZE)
def _readers(
    table: Table, names: tuple[str, ...], dialect: Dialect
) -> list[tuple[Callable[[Any], Any], Processor | None]]:
    """Return for each name the function that reads it from a row, and the one that converts its column, if any."""
    return [(itemgetter(name), _processor(table, name, dialect)) for name in names]


def _processor(table: Table, name: str, dialect: Dialect) -> Processor | None:
    column_type, postgres = table.c[name].type, dialect.name == "postgresql"
    if isinstance(column_type, LargeBinary):
        return _hexadecimal if postgres else None
    if isinstance(column_type, SafeText):
        return storable_texts
    if isinstance(column_type, JsonText):
        return lambda values: [*map(encode_json, values)]
    if isinstance(column_type, UtcDateTime):
        return partial(storable_times, postgres=postgres)
    process = column_type.dialect_impl(dialect).bind_processor(dialect)
    return None if process is None else lambda values: [*map(process, values)]


# ── statements, which contain only names of our own tables and columns ───────


@cache
def _insert_one(table: Table, names: tuple[str, ...]) -> str:
    columns, marks = ", ".join(_quoted(names, sqlite.dialect())), ", ".join("?" * len(names))
    repeated = "" if table in BLOB_TABLES else REPEATED  # the driver would copy the blobs of all rows together
    return f"INSERT INTO {table.name} ({columns}) VALUES {repeated}({marks}) ON CONFLICT DO NOTHING"  # noqa: S608


@lru_cache(CACHE_SIZE)
def _insert_records(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    columns, records = ", ".join(_quoted(names, dialect)), _records(table, names, dialect)
    return f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {records} ON CONFLICT DO NOTHING"  # noqa: S608


@lru_cache(CACHE_SIZE)
def _insert_selected(
    table: Table,
    names: tuple[str, ...],
    dialect: Dialect,
    computed: Computed = (),
    *,
    unless: ColumnElement[bool] = NEVER,
) -> str:
    columns = ", ".join(_quoted(names, dialect))
    if dialect.name == "postgresql":
        source = f"SELECT {columns} FROM {_records(table, names, dialect)}"  # noqa: S608
    else:
        source = f"VALUES {REPEATED}({', '.join('?' * len(names))})"
    values = dict(zip(names, _quoted(names, dialect), strict=True)) | {
        name: _literal_sql(expression, dialect) for name, expression in computed
    }
    return (
        f"WITH new ({columns}) AS ({source}) INSERT INTO {table.name} ({', '.join(_quoted(values, dialect))}) "  # noqa: S608
        f"SELECT {', '.join(values.values())} FROM new WHERE NOT {_literal_sql(unless, dialect)} ON CONFLICT DO NOTHING"
    )


def _literal_sql(expression: ColumnElement[Any], dialect: Dialect) -> str:
    return str(expression.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


@cache
def _update_one(table: Table, names: tuple[str, ...]) -> str:
    *changed, key = _quoted(names, sqlite.dialect())
    values = ", ".join(f"{name} = new.column{number}" for number, name in enumerate(changed, 1))
    new = f"(VALUES {REPEATED}({', '.join('?' * len(names))})) AS new"
    return f"UPDATE {table.name} AS old SET {values} FROM {new} WHERE old.{key} = new.column{len(names)}"  # noqa: S608


@lru_cache(CACHE_SIZE)
def _update_records(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    """Return an update of the rows with the keys of the second parameter.

    It is no join: PostgreSQL would look up each row of a table that was nearly empty among the new values.
    """
    *changed, key = _quoted(names, dialect)
    values = ", ".join(f"new.{name}" for name in changed)
    new = f"SELECT {values} FROM {_records(table, names, dialect)} WHERE new.{key} = old.{key} LIMIT 1"  # noqa: S608
    keys = f"%s::{table.c[names[-1]].type.compile(dialect)}[]"
    return f"UPDATE {table.name} AS old SET ({', '.join(changed)}) = ({new}) WHERE old.{key} = ANY({keys})"  # noqa: S608


def _records(table: Table, names: Sequence[str], dialect: Dialect) -> str:
    types = [table.c[name].type.compile(dialect) for name in names]
    columns = ", ".join(
        f"{name} {column_type}" for name, column_type in zip(_quoted(names, dialect), types, strict=True)
    )
    return f"json_to_recordset(%s::json) AS new ({columns})"


def _quoted(names: Iterable[str], dialect: Dialect) -> list[str]:
    return [dialect.identifier_preparer.quote(name) for name in names]
