"""An IN list that is one parameter, so that one prepared statement fits lists of any length."""

from typing import Any

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Dialect, Text, bindparam, types
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from service.storage.column_types import JSON_ENCODER


class ListParameter(types.TypeDecorator[Any]):
    """A collection of texts, or of `numbers`: an array on PostgreSQL, JSON text on SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, *, numbers: bool = False) -> None:
        super().__init__()
        self.numbers = numbers

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that `dialect` takes."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(ARRAY(BigInteger if self.numbers else Text))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return the parameter for the driver."""
        return list(value) if dialect.name == "postgresql" else JSON_ENCODER.encode(list(value))


class _InList(FunctionElement[Any]):
    inherit_cache = True
    type = types.NullType()  # for a Boolean, SQLAlchemy compares with 1 on SQLite, which then uses no index


def in_list(column: ColumnElement[Any], name: str, *, numbers: bool = False) -> ColumnElement[bool]:
    """Return the condition that `column` is in the parameter `name`, a collection of texts or of `numbers`."""
    return _InList(column, bindparam(name, type_=ListParameter(numbers=numbers)))


@compiles(_InList, "sqlite")
def _for_sqlite(element: _InList, compiler: SQLCompiler, **options: Any) -> str:
    column, wanted = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({wanted}))"  # noqa: S608 - both are compiled


@compiles(_InList, "postgresql")
def _for_postgresql(element: _InList, compiler: SQLCompiler, **options: Any) -> str:
    column, wanted = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY({wanted})"
