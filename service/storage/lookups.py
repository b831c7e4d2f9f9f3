"""Lookups for which PostgreSQL has only one good plan, also the one that it made while the table was nearly empty."""

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, TableValuedAlias, Text, bindparam, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.storage.column_types import ListParameter


class _Listed(FunctionElement[Any]):
    inherit_cache = True
    type = Text()


def first_value(column: ColumnElement[str], *conditions: ColumnElement[bool]) -> ScalarSelect[str]:
    """Return the first value of a column for which the conditions hold, or null.

    It stands for NOT EXISTS, which PostgreSQL turns into a join: its plan, made while the queue was nearly empty, would
    read all pending deliveries for each due one, or hash all of them.
    """
    return select(column).where(*conditions).limit(literal_column("1")).scalar_subquery()


def listed(name: str) -> TableValuedAlias:
    """Return the parameter `name`, a collection of texts, as a table with the column `value`.

    With `first_value` for each it stands for `in_list`, for which PostgreSQL would rather read a whole partial index
    that was nearly empty than look up every text.
    """
    wanted = _Listed(bindparam(name, type_=ListParameter()))
    return wanted.table_valued("value", name="value")


@compiles(_Listed, "sqlite")
def _for_sqlite(element: _Listed, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Listed, "postgresql")
def _for_postgresql(element: _Listed, compiler: SQLCompiler, **options: Any) -> str:
    return f"unnest({compiler.process(element.clauses, **options)}::text[])"
