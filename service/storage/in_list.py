"""Membership in a list that is one parameter: the statement stays the same, and prepared, however long the list is."""

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
        """Return what the driver is given."""
        return list(value) if dialect.name == "postgresql" else JSON_ENCODER.encode(list(value))


class _InList(FunctionElement[Any]):
    inherit_cache = True
    type = types.NullType()  # as a Boolean, SQLite would be asked whether it is 1, and use no index


def in_list(column: ColumnElement[Any], name: str, *, numbers: bool = False) -> ColumnElement[bool]:
    """Return the condition that `column` is one of the parameter `name`, a collection of texts, or of `numbers`."""
    return _InList(column, bindparam(name, type_=ListParameter(numbers=numbers)))


@compiles(_InList, "sqlite")
def _for_sqlite(element: _InList, compiler: SQLCompiler, **more: Any) -> str:
    column, wanted = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({wanted}))"  # noqa: S608 - both are compiled


@compiles(_InList, "postgresql")
def _for_postgresql(element: _InList, compiler: SQLCompiler, **more: Any) -> str:
    column, wanted = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} = ANY({wanted})"
