"""Queries that share the round trip of the next statement: their rows are there after it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Dialect, Select

from service.storage.async_engine import AsyncConnection
from service.storage.deferred import Deferred, defer

CACHE_SIZE = 64

Process = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A query as text of the driver.

    `values` are the parameters that the query has itself, and `bind` converts those of some types, by name. `names` are
    all of them in their order, None for a driver that takes names.
    """

    statement: str
    values: Mapping[str, Any]
    names: Sequence[str] | None
    bind: Mapping[str, Process]

    def parameters(self, given: Mapping[str, Any]) -> Any:
        """Return the parameters for the driver."""
        values = {**self.values, **given}
        bound = {name: self.bind[name](value) if name in self.bind else value for name, value in values.items()}
        return bound if self.names is None else [bound[name] for name in self.names]


@dataclass(frozen=True, slots=True)
class DeferredRows:
    """The rows of a deferred query."""

    deferred: Deferred
    query: Select[Any]
    dialect: Dialect

    def all(self) -> list[list[Any]]:
        """Return the rows; raises RuntimeError before the next statement of the transaction has run."""
        if self.deferred.rows is None:
            raise RuntimeError("the rows come with the next statement")
        rows = [list(row) for row in self.deferred.rows]
        for index, process in _readers(self.query, self.dialect, self.deferred.types):
            for row in rows:
                row[index] = process(row[index])
        return rows


def defer_query(connection: AsyncConnection, query: Select[Any], given: Mapping[str, Any]) -> DeferredRows:
    """Run a query of a write transaction right before its next statement, with the parameters `given`."""
    compiled = _compiled(query, connection.dialect)
    deferred = Deferred(statement=compiled.statement, parameters=compiled.parameters(given), returns=True)
    return DeferredRows(defer(connection, deferred), query, connection.dialect)


@lru_cache(CACHE_SIZE)
def _compiled(query: Select[Any], dialect: Dialect) -> _Compiled:
    made: Any = query.compile(dialect=dialect)
    bind = {name: each.type.dialect_impl(dialect).bind_processor(dialect) for name, each in made.binds.items()}
    return _Compiled(
        statement=str(made),
        values=made.params,
        names=made.positiontup if dialect.positional else None,
        bind={name: process for name, process in bind.items() if process},
    )


@lru_cache(CACHE_SIZE)
def _readers(query: Select[Any], dialect: Dialect, types: tuple[object, ...]) -> Sequence[tuple[int, Process]]:
    """Return the places of the columns that must be converted, with the functions that do so."""
    columns = [column.type.dialect_impl(dialect) for column in query.selected_columns]
    pairs = zip(columns, types or [None] * len(columns), strict=True)
    read = [column.result_processor(dialect, driver_type) for column, driver_type in pairs]
    return [(index, process) for index, process in enumerate(read) if process]
