"""Compiled statements that all engines of a test process share."""

from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.util import LRUCache

DIALECTS = (SQLiteDialect_aiosqlite, PGDialectAsync_psycopg)
SIZE = 4000
"""Statements that are kept; the tests of one process compile some 2,000 different ones."""


def _same_class(dialect: object, other: object) -> bool:
    return type(dialect) is type(other)


def _hash_of_class(dialect: object) -> int:
    return hash(type(dialect))


def share_compiled_statements() -> None:
    """Let every engine use the same compiled statements.

    Each test has an engine of its own, and to compile its statements again takes a quarter of the processor time of
    tests over a database. The dialect is a part of the key of a compiled statement: those of one class, which differ in
    nothing here, count as equal.
    """
    for dialect in DIALECTS:
        setattr(dialect, "__eq__", _same_class)  # noqa: B010 - a type checker allows no assignment to a method
        setattr(dialect, "__hash__", _hash_of_class)  # noqa: B010
    shared: LRUCache[object, object] = LRUCache(SIZE)

    @event.listens_for(Engine, "engine_connect")
    def use_shared(connection: Connection) -> None:
        if isinstance(connection.dialect, DIALECTS):
            setattr(connection.engine, "_compiled_cache", shared)  # noqa: B010
