"""Sessions of PostgreSQL: their settings, their transactions, and the errors after which a connection is replaced.

The defaults of a server or of a database must not matter, so every session or transaction sets what the code relies on.
A direct connection sets it once. A connection pooler lends the same session to others from transaction to transaction:
there nothing may be left behind, so each transaction sets it anew, together with its BEGIN, and no statement is
prepared. A pooler is recognised by the process number that it reports at the start, which is not that of the server's
process.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Dialect, ExceptionContext, event
from sqlalchemy.exc import DBAPIError, OperationalError

from service.storage.async_engine import AsyncConnection, AsyncEngine, create_async_engine
from service.storage.dialects import Start
from service.storage.pg_address import PostgresAddress
from service.storage.pg_connect import connect, is_full
from service.storage.pg_driver import Session

LIMITS: Mapping[str, str] = {
    "statement_timeout": "60s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "10s",
    "random_page_cost": "1.1",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "jit": "off",
}
"""Settings that the address may overrule.

A session of a process that vanished in the middle of a transaction ends after 10 seconds, less than others wait for its
locks.

The `enable_` ones leave one kind of plan: look up each row by an index. The others read a whole table or index (a join
with a materialized one does, too), which is right only while it is small; but the plan of a prepared statement stays
while the table grows, and the statistics of a table that grows fast are old. What counts all rows allows the other
plans (`dialects.allow_whole_tables`).

Up to version 17 a step of a kind that is off and has no substitute, such as a sort, costs ten billion more. The server
would compile each such statement (`jit`), anew at every run: a second for one that takes a millisecond.
"""

PINNED: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}
"""Settings that the code relies on."""

PINNED_SINCE: Mapping[str, tuple[int, str]] = {
    "idle_session_timeout": (140_000, "0"),
    "transaction_timeout": (170_000, "0"),
}
"""Further such settings, and the version of the server that has them."""

FREE_CONNECTION_TIMEOUT = 3.0
FREE_CONNECTION_INTERVAL = 0.1
"""Seconds in all and between two attempts to connect to a server that has no free connection."""

MAX_AGE = 600
"""Seconds after which a connection is replaced before its next use, so that none outlasts a change of servers."""

BEGIN = "boomerang_begin"
"""Execution option: the statement that begins a transaction, None for statements that commit by themselves."""

WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED"
READ = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

SHARED = "boomerang_shared"
"""Entry of a connection's `info`: the SQL that each transaction begins with, because its session is shared."""

READ_ONLY = "25006"
LOST_CODES = frozenset({READ_ONLY, "57P01", "57P02", "57P03"})
"""SQLSTATE of a server that only reads, stops, has crashed or starts: another server may answer the next connection."""

LOST_CLASS = "08"
SHARED_CODES = frozenset({"26000", "42P05"})
"""A prepared statement that is missing or exists already: the session is shared, though it did not look like it."""


def postgres_engine(at: PostgresAddress, size: int) -> AsyncEngine:
    """Return an engine with at most `size` connections, whose transactions begin as the option BEGIN says."""
    sessions = _Sessions(at)
    engine = create_async_engine(
        "postgresql+psycopg://",
        async_creator=sessions.open,
        pool_size=size,
        max_overflow=0,
        pool_timeout=15,
        pool_pre_ping=True,
        pool_recycle=MAX_AGE,
        hide_parameters=True,
        use_native_hstore=False,
    )
    _ping_rarely(engine.sync_engine.dialect)
    event.listen(engine.sync_engine, "connect", sessions.connected)
    event.listen(engine.sync_engine, "begin", sessions.began)
    event.listen(engine.sync_engine, "handle_error", sessions.failed)
    return engine


def _ping_rarely(dialect: Dialect) -> None:
    """Let the pool ask a connection whether it stands only if that is not sure."""
    ping = dialect.do_ping

    def ping_unless_sure(connection: Any) -> bool:
        session: Session = connection.driver_connection
        return session.surely_stands() or ping(connection)

    dialect.do_ping = ping_unless_sure  # type: ignore[method-assign,assignment]


def is_lost(sqlstate: str | None) -> bool:
    """Return whether the connection that reported this SQLSTATE must be replaced."""
    return sqlstate is not None and (sqlstate in LOST_CODES | SHARED_CODES or sqlstate.startswith(LOST_CLASS))


@asynccontextmanager
async def when_free(start: Start) -> AsyncIterator[AsyncConnection]:
    """Yield the connection that `start` yields; wait while the server has no free one and the pool none either.

    This happens on small plans while two releases overlap.
    """
    ends_at = asyncio.get_running_loop().time() + FREE_CONNECTION_TIMEOUT
    while True:
        try:
            started = AsyncExitStack()
            connection = await started.enter_async_context(start())
        except OperationalError as error:
            if not is_full(error) or asyncio.get_running_loop().time() > ends_at:
                raise
            await asyncio.sleep(FREE_CONNECTION_INTERVAL)
        else:
            async with started:
                yield connection
            return


async def set_up(driver: psycopg.AsyncConnection, at: PostgresAddress, *, shared: bool = False) -> str:
    """Set a session that is ours alone, in one round trip; otherwise return the SQL for each of its transactions."""
    literals = _literals(_settings(at, driver.info.server_version))
    own = sql.SQL("{} = pg_backend_pid()").format(sql.Literal(0 if shared else driver.info.backend_pid))
    calls = [sql.SQL("set_config({}, {}, NOT ({}))").format(*pair, own) for pair in literals]
    cursor = await driver.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join([own, *calls])))
    row = await cursor.fetchone()
    if row and row[0]:
        driver.prepare_threshold = at.prepare_threshold
        return ""
    local = [sql.SQL("set_config({}, {}, true)").format(*pair) for pair in literals]
    return sql.SQL("; SELECT {}").format(sql.SQL(", ").join(local)).as_string(driver)


class _Sessions:
    """Sets up each connection of an engine. After a sign that sessions are shared, all later ones count as shared."""

    def __init__(self, at: PostgresAddress) -> None:
        self._at = at
        self._shared = at.pooled
        self._settings_by_driver: WeakKeyDictionary[psycopg.AsyncConnection, str] = WeakKeyDictionary()

    async def open(self) -> psycopg.AsyncConnection:
        """Return a new connection that is set up."""
        driver = await connect(self._at)
        try:
            settings = await set_up(driver, self._at, shared=self._shared)
        except BaseException:
            await driver.close()
            raise
        if settings:
            self._settings_by_driver[driver] = settings
        return driver

    def connected(self, connection: Any, record: Any) -> None:
        """Note how the transactions of a new connection begin."""
        if settings := self._settings_by_driver.pop(connection.driver_connection, None):
            record.info[SHARED] = settings

    def began(self, connection: Connection) -> None:
        """Begin a transaction in the round trip of its first statement, or of the settings of a shared session."""
        begin = connection.get_execution_options().get(BEGIN, WRITE)
        shared = connection.info.get(SHARED, "")
        if not shared:
            session: Session = connection.connection.driver_connection  # type: ignore[assignment]
            session.begin(begin)
            return
        cursor = connection.connection.cursor()
        try:
            cursor.execute(f"{begin or WRITE}{shared}")
        except psycopg.Error as error:
            connection.invalidate(error)
            raise DBAPIError.instance(begin, None, error, psycopg.Error, connection_invalidated=True) from error
        finally:
            cursor.close()

    def failed(self, context: ExceptionContext) -> None:
        """Have a connection replaced, and with it all others of the pool, where its error means a lost server."""
        sqlstate = getattr(context.original_exception, "sqlstate", None)
        if sqlstate in SHARED_CODES:
            self._shared = True
        if is_lost(sqlstate):
            context.is_disconnect = True


def _settings(at: PostgresAddress, version: int) -> dict[str, str]:
    newer = {name: value for name, (since, value) in PINNED_SINCE.items() if version >= since}
    pinned = {**PINNED, **newer}
    names = {name.lower() for name in pinned}
    return {**LIMITS, **{name: value for name, value in at.session.items() if name not in names}, **pinned}


def _literals(settings: Mapping[str, str]) -> list[tuple[sql.Literal, sql.Literal]]:
    return [(sql.Literal(name), sql.Literal(value)) for name, value in settings.items()]
