"""The statements that a store sends to its database, and their query plans."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import psycopg
from sqlalchemy import event

from service.storage import Store
from service.storage.deferred import Deferred
from service.storage.pg_driver import Session
from service.storage.sqlite_driver import Connection


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement with its parameters, as sent to the driver."""

    sql: str
    parameters: Any


DATA = ("SELECT", "UPDATE", "INSERT", "DELETE", "WITH")


def _noted(defer: Callable[[Any, Deferred], None], statements: list[Statement]) -> Callable[[Any, Deferred], None]:
    """Return a driver's `defer` that also notes the statement, with the first of several sets of parameters."""

    def note(driver: Any, deferred: Deferred) -> None:
        if deferred.statement.startswith(DATA) and "pg_" not in deferred.statement:
            parameters = deferred.parameters[0] if deferred.many else deferred.parameters
            values = tuple(parameters) if isinstance(parameters, list) else parameters
            statements.append(Statement(sql=deferred.statement, parameters=values))
        defer(driver, deferred)

    return note


@contextmanager
def emitted(store: Store) -> Iterator[list[Statement]]:
    """Collect the statements that `store` emits inside the block."""
    statements: list[Statement] = []

    def note(_c: object, _cursor: object, sql: str, parameters: Any, _context: object, many: bool) -> None:
        if sql.lstrip().startswith(DATA):
            statements.append(Statement(sql=sql, parameters=parameters[0] if many else parameters))

    database = store._database
    engines = {database._writer.sync_engine, database._reader.sync_engine}
    targets = [engine for engine in engines if not hasattr(engine, "_proxied")]
    for engine in targets:
        event.listen(engine, "before_cursor_execute", note)
    with ExitStack() as patches:
        for driver in (Connection, Session):
            patches.enter_context(patch.object(driver, "defer", _noted(driver.defer, statements)))
        yield statements
    for engine in targets:
        event.remove(engine, "before_cursor_execute", note)


async def query_plan(store: Store, statement: Statement) -> str:
    """Return the query plan of `statement` when the database must use an index wherever one fits."""
    database = store._database
    async with database.writing() as write:
        if not database.address.postgres:
            rows = await write.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.sql}", statement.parameters)
            return "\n".join(row["detail"] for row in rows.mappings())
        for method in ("seqscan", "bitmapscan", "sort"):
            await write.connection.exec_driver_sql(f"SET LOCAL enable_{method} = off")
        lines = await write.connection.exec_driver_sql(f"EXPLAIN {statement.sql}", statement.parameters)
        return "\n".join(lines.scalars())


def steps(store: Store, statements: Sequence[Statement]) -> int:
    """Return how many steps SQLite takes for statements that read: some ten for each entry of an index."""
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    with closing(sqlite3.connect(store._database._writer.url.database or "")) as connection:
        connection.set_progress_handler(count, 1)
        for statement in statements:
            connection.execute(statement.sql, statement.parameters).fetchall()
    return taken


@contextmanager
def once_before(start: str, act: Callable[[], None]) -> Iterator[None]:
    """Let another session `act`, and commit, just before the first statement inside the block that begins with `start`.

    This is how two processes interleave at one place, without a thread and without a pause. Deferred statements and
    COMMIT are places too: each runs by itself here. `act` must not wait for what the transaction holds. For stores over
    PostgreSQL: over SQLite it would wait for the transaction. Fails if no statement begins with `start`.
    """
    left = [act]

    def interleaved(execute: Callable[..., Any]) -> Callable[..., Any]:
        async def run(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
            if left and isinstance(cursor.connection, Session) and str(query).startswith(start):
                left.pop()()
            return await execute(cursor, query, *arguments, **options)

        return run

    with ExitStack() as patches:
        patches.enter_context(patch.object(psycopg.AsyncPipeline, "is_supported", return_value=False))
        for name in ("execute", "executemany"):
            method = getattr(psycopg.AsyncCursor, name)
            patches.enter_context(patch.object(psycopg.AsyncCursor, name, interleaved(method)))
        yield
    assert not left, f"no statement began with {start}"
