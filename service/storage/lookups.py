"""Lookups for which PostgreSQL has only one good plan, also the one that it made while the table was nearly empty."""

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, TableValuedAlias, Text, bindparam, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from service.storage.async_engine import AsyncConnection
from service.storage.column_types import ListParameter
from service.storage.dialects import prefer_order_of_indexes


class _FirstPart(FunctionElement[str]):
    inherit_cache = True
    type = Text()


class _Listed(FunctionElement[Any]):
    inherit_cache = True
    type = Text()


class _InFound(FunctionElement[Any]):
    inherit_cache = True
    type = NullType()  # for a Boolean, SQLAlchemy compares with 1 on SQLite, which then uses no index


def in_found(column: ColumnElement[Any], query: Select[Any]) -> ColumnElement[bool]:
    """Return the condition that `column` is in the result of `query`, which does not depend on the row.

    PostgreSQL turns IN into a join: its plan, made while the table was nearly empty, would read all of its rows.
    """
    return _InFound(column, query.scalar_subquery())


def first_value(column: ColumnElement[str], *conditions: ColumnElement[bool]) -> ScalarSelect[str]:
    """Return the first value of a column for which the conditions hold, or null.

    It stands for EXISTS and NOT EXISTS, which PostgreSQL turns into a join or a hashed subplan: its plan, made while
    the queue was nearly empty, would read all waiting rows for each row, or hash all of them.
    """
    return select(column).where(*conditions).limit(literal_column("1")).scalar_subquery()


async def distinct_values(
    connection: AsyncConnection, column: ColumnElement[str], where: ColumnElement[bool]
) -> list[str]:
    """Return the values of a column in rows of `where`, in order, with one lookup for each in the index that begins so.

    MIN would need no order: PostgreSQL may read the whole of another index that was nearly empty.
    """
    prefer_order_of_indexes(connection)
    found: list[str] = []
    query = select(column).where(where).order_by(column).limit(literal_column("1"))
    row = (await connection.execute(query)).first()
    while row is not None:
        found.append(row[0])
        row = (await connection.execute(query.where(column > row[0]))).first()
    return found


def listed(name: str) -> TableValuedAlias:
    """Return the parameter `name`, a collection of texts, as a table with the column `value`.

    With `first_value` for each it stands for `in_list`, for which PostgreSQL would rather read a whole partial index
    that was nearly empty than look up every text.
    """
    wanted = _Listed(bindparam(name, type_=ListParameter()))
    return wanted.table_valued("value", name="value")


def first_part(text: ColumnElement[str]) -> ColumnElement[str]:
    """Return what precedes the first slash: the task of a lane or a destination."""
    return _FirstPart(text)


@compiles(_InFound, "sqlite")
def _in_found_for_sqlite(element: _InFound, compiler: SQLCompiler, **options: Any) -> str:
    column, query = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN {query}"


@compiles(_InFound, "postgresql")
def _in_found_for_postgresql(element: _InFound, compiler: SQLCompiler, **options: Any) -> str:
    column, query = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY(ARRAY{query})"


@compiles(_FirstPart, "sqlite")
def _first_part_for_sqlite(element: _FirstPart, compiler: SQLCompiler, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    return f"substr({text}, 1, instr({text} || '/', '/') - 1)"


@compiles(_FirstPart, "postgresql")
def _first_part_for_postgresql(element: _FirstPart, compiler: SQLCompiler, **options: Any) -> str:
    return f"split_part({compiler.process(element.clauses, **options)}, '/', 1)"


@compiles(_Listed, "sqlite")
def _for_sqlite(element: _Listed, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Listed, "postgresql")
def _for_postgresql(element: _Listed, compiler: SQLCompiler, **options: Any) -> str:
    return f"unnest({compiler.process(element.clauses, **options)}::text[])"
