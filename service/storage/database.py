"""Access to the database: read connections, write transactions, driver errors, and the signals that commits send."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Table
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.domain.errors import BadSetting, OperatorError, SchemaBehind, StoreUnavailable
from service.domain.ports.signals import Signals
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import Rows, insertion
from service.storage.dialects import Start, insert_and_commit, parse_address, send_notifications
from service.storage.sqlite_driver import prepare_file, sqlite_engine

if TYPE_CHECKING:  # needs the optional driver
    from service.storage.pg_address import PostgresAddress
    from service.storage.pg_watch import AnswerWatch

DEFAULT_CONNECTIONS = 8
"""Connections of a process to PostgreSQL in all."""

OUTSIDE_POOL = 2
"""Those of them that listen, and that ask whether a silent database still answers."""

FOR_READERS = 2
"""Connections of the pool that writers leave free."""

LISTEN_SETTING = "DATABASE_LISTEN_URL"

WRITER_TIMEOUT = 30.0
"""Seconds that a transaction waits for other writers of this process."""

TRANSACTION_TIMEOUT = 90.0
"""Seconds that a transaction may take in all: without a limit, a hanging server blocks everything that commits."""

SCHEMA_ERRORS = frozenset({"42P01", "42703"})  # PostgreSQL: undefined table, undefined column


WhenFree = Callable[[Start], AbstractAsyncContextManager[AsyncConnection]]


@dataclass(frozen=True, kw_only=True)
class Write:
    """A write transaction: its connection, and the topics to notify after its commit."""

    connection: AsyncConnection
    topics: set[str] = field(default_factory=set)


class Database:
    """One database, with a limit on concurrent writers.

    SQLite takes one writer at a time: the others wait on a semaphore, not in SQLite's busy loop. PostgreSQL takes fewer
    writers than connections, so that some are free for readers. `connections` limits those of the process to
    PostgreSQL, the one that listens at `listen_url` included. `write_failed` is True if a write failed since it was
    last reset; reading may still work.
    """

    def __init__(
        self,
        database_url: str,
        signals: Signals,
        *,
        connections: int = DEFAULT_CONNECTIONS,
        listen_url: str | None = None,
    ) -> None:
        self.address = parse_address(database_url)
        self.listen_address = parse_address(listen_url, LISTEN_SETTING) if listen_url else self.address
        if self.address.postgres and not self.listen_address.postgres:
            raise BadSetting(f"{LISTEN_SETTING} must begin with postgresql://, as DATABASE_URL does")
        self.signals = signals
        self.write_failed = False
        self._watch: AnswerWatch | None = None
        self._when_free: WhenFree = _at_once
        if self.address.server:
            self._open_postgres(self.address.server, max(1, connections - OUTSIDE_POOL))
        else:
            self._file = prepare_file(self.address.path)
            self._writer = self._committer = sqlite_engine(self.address.sqlite_url, writes=True)
            self._reader = sqlite_engine(self.address.sqlite_url, writes=False)
            self._writer_slots = asyncio.Semaphore(1)

    def _open_postgres(self, server: "PostgresAddress", size: int) -> None:
        from service.storage import pg_sessions, pg_watch  # noqa: PLC0415 - they need the optional driver

        self._writer = pg_sessions.postgres_engine(server, size)
        self._reader = self._writer.execution_options(**{pg_sessions.BEGIN: pg_sessions.READ})
        self._committer = self._writer.execution_options(**{pg_sessions.BEGIN: None})
        self._when_free = pg_sessions.when_free
        self._watch = pg_watch.AnswerWatch(server, self._writer)
        self._writer_slots = asyncio.Semaphore(max(1, size - FOR_READERS))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection that reads one snapshot of the database and cannot write."""
        async with database_errors_translated(self._watch):
            self._check_file()
            async with self._when_free(self._reader.begin) as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Write]:
        """Yield a write transaction; leaving commits durably and then notifies, an error rolls everything back."""
        async with self._writer_slot(), self._when_free(self._writer.begin) as connection:
            write = Write(connection=connection)
            yield write
            if self.address.postgres:
                await send_notifications(connection, write.topics)
        self.signals.notify(*sorted(write.topics))

    async def insert_and_commit(self, table: Table, rows: Rows, topic: str, *, unless: ColumnElement[bool]) -> None:
        """Insert `rows` durably in their own transaction, in one call of the driver, then notify `topic`.

        Rows that collide with existing ones are skipped, and those for which `unless` holds. Cancellation of the
        caller does not stop the transaction: it may commit all the same. Raises StoreUnavailable.
        """
        async with self._writer_slot(), self._when_free(self._committer.connect) as connection:
            await insert_and_commit(connection, insertion(connection.dialect, table, rows, unless), topic)
        self.signals.notify(topic)

    @asynccontextmanager
    async def _writer_slot(self) -> AsyncIterator[None]:
        """Hold a writer slot; inside the block, translate errors and set `write_failed` for readiness."""
        try:
            async with database_errors_translated(self._watch):
                try:
                    async with asyncio.timeout(WRITER_TIMEOUT):
                        await self._writer_slots.acquire()
                except TimeoutError as error:
                    raise StoreUnavailable("the database is busy: other writes take too long") from error
                try:
                    self._check_file()
                    yield
                finally:
                    self._writer_slots.release()
        except StoreUnavailable:
            self.write_failed = True
            raise

    def _check_file(self) -> None:
        """Raise StoreUnavailable if the SQLite file was removed or replaced: writes to it would be lost."""
        if self.address.postgres:
            return
        try:
            if os.path.samestat(self.address.path.stat(), self._file):
                return
        except OSError:
            pass
        raise StoreUnavailable(f"the database file {self.address.path} is gone or was replaced: restart")

    async def close(self) -> None:
        """Close every connection."""
        if self._watch:
            await self._watch.close()
        await self._writer.dispose()
        await self._reader.dispose()


def _at_once(start: Start) -> AbstractAsyncContextManager[AsyncConnection]:
    return start()


@asynccontextmanager
async def database_errors_translated(watch: "AnswerWatch | None" = None) -> AsyncIterator[None]:
    """Raise StoreUnavailable, SchemaBehind or BadSetting for driver errors, and after TRANSACTION_TIMEOUT seconds.

    With `watch`, StoreUnavailable also comes as soon as the database does not answer. Errors about the values of a
    statement pass unchanged.
    """
    try:
        async with asyncio.timeout(TRANSACTION_TIMEOUT) as limit:
            if watch is None:
                yield
                return
            watch.began(limit)
            try:
                yield
                watch.answered()
            finally:
                watch.ended(limit)
    except PoolTimeout as error:
        raise StoreUnavailable("the database is busy: no connection is free") from error
    except DBAPIError as error:
        translated = _translated(error)
        if translated is None:
            raise
        raise translated from error
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StoreUnavailable("the database does not answer") from error


def _translated(error: DBAPIError) -> OperatorError | None:
    message = " ".join(str(error.orig).split())
    missing = message.startswith(("no such table", "no such column"))  # SQLite
    if missing or getattr(error.orig, "sqlstate", None) in SCHEMA_ERRORS:
        return SchemaBehind('the database has another schema: run "boomerang migrate"')
    if message.startswith("invalid connection option"):  # from the query string of the address
        return BadSetting(f"DATABASE_URL has an {message}")
    if isinstance(error, DataError | IntegrityError) and not error.connection_invalidated:
        return None
    return StoreUnavailable(f"the database cannot do it now: {message}")
