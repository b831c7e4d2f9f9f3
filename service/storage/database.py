"""The one way to the database: reading, writing in one transaction, and how a driver's troubles are told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Table
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import BadSetting, OperatorError, SchemaBehind, StoreUnavailable
from service.domain.ports.signals import Signals
from service.storage.bulk_writes import Rows, insertion
from service.storage.dialects import (
    insert_and_commit,
    parse_address,
    postgres_engine,
    prepare_file,
    same_file,
    send_notifications,
    sqlite_engine,
)

MAX_POSTGRES_WRITERS = 8
WRITER_TIMEOUT = 30.0
"""Seconds that a writer waits for its turn inside this process."""

TRANSACTION_TIMEOUT = 90.0
"""Seconds that a transaction may take in all: what neither ends nor fails by itself is a database that hangs."""

SCHEMA_ERRORS = frozenset({"42P01", "42703"})  # PostgreSQL: undefined table, undefined column


@dataclass(frozen=True, kw_only=True)
class Write:
    """A write transaction: its connection, and the topics that ring once it is committed."""

    connection: AsyncConnection
    topics: set[str] = field(default_factory=set)


class Database:
    """One database, with a turnstile for writers.

    SQLite takes one writer at a time, which waits here for its turn and not in the database's busy loop; PostgreSQL
    takes a few, so that readers always find a connection.
    """

    def __init__(self, database_url: str, signals: Signals) -> None:
        self.address = parse_address(database_url)
        self.signals = signals
        if self.address.postgres:
            self._writer = postgres_engine(self.address)
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        else:
            self._file = prepare_file(self.address.path)
            self._writer = sqlite_engine(self.address, writes=True)
            self._reader = sqlite_engine(self.address, writes=False)
        self._turn = asyncio.Semaphore(MAX_POSTGRES_WRITERS if self.address.postgres else 1)
        self.write_failed = False
        """Whether a write could not be done since somebody last took this back: reading may still work."""

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection that sees one state of the database and writes nothing."""
        with driver_errors_translated():
            self._look_for_the_file()
            async with _in_time(), self._reader.begin() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Write]:
        """Yield a write transaction; leaving commits durably and then rings, an error rolls everything back."""
        async with self._as_writer(), self._writer.begin() as connection:
            write = Write(connection=connection)
            yield write
            await send_notifications(connection, write.topics)
        self.signals.notify(*sorted(write.topics))

    async def insert_and_commit(self, table: Table, rows: Rows, topic: str) -> None:
        """Insert `rows` durably in a transaction of their own, in one trip to the database, then ring `topic`.

        A row that collides with another is left out. One who stops waiting stops nothing: it may be committed all the
        same. Raises StoreUnavailable.
        """
        async with self._as_writer(), self._writer.connect() as connection:
            await insert_and_commit(connection, insertion(connection.dialect, table, rows), topic)
        self.signals.notify(topic)

    @asynccontextmanager
    async def _as_writer(self) -> AsyncIterator[None]:
        """Wait for a turn, and tell of troubles inside the block; readiness hears of them."""
        try:
            with driver_errors_translated():
                async with _in_time(), self._my_turn():
                    yield
        except StoreUnavailable:
            self.write_failed = True
            raise

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WRITER_TIMEOUT):
                await self._turn.acquire()
        except TimeoutError as error:
            raise StoreUnavailable("the database is busy: other writes take too long") from error
        try:
            self._look_for_the_file()
            yield
        finally:
            self._turn.release()

    def _look_for_the_file(self) -> None:
        """Refuse an SQLite file that was removed or replaced: what is written there nobody ever reads."""
        if not self.address.postgres and not same_file(self.address.path, self._file):
            raise StoreUnavailable(f"the database file {self.address.path} is gone or was replaced: restart")

    async def close(self) -> None:
        """Close every connection."""
        await self._writer.dispose()
        await self._reader.dispose()


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Give up after LONGEST: a server that hangs would otherwise hold up everything that waits for a commit."""
    try:
        async with asyncio.timeout(TRANSACTION_TIMEOUT) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StoreUnavailable("the database does not answer") from error


@contextmanager
def driver_errors_translated() -> Iterator[None]:
    """Raise StoreUnavailable or SchemaBehind for what a driver says about anything but the values that it was given."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable("the database is busy: no connection is free") from error
    except DBAPIError as error:
        told = _told(error)
        if told is None:
            raise
        raise told from error


def _told(error: DBAPIError) -> OperatorError | None:
    said = " ".join(str(error.orig).split())
    if getattr(error.orig, "sqlstate", None) in SCHEMA_ERRORS or said.startswith(("no such table", "no such column")):
        return SchemaBehind('the database has another schema: run "boomerang migrate"')
    if said.startswith("invalid connection option"):  # what stands after the address's question mark
        return BadSetting(f"DATABASE_URL has an {said}")
    if isinstance(error, DataError | IntegrityError) and not error.connection_invalidated:
        return None
    return StoreUnavailable(f"the database cannot do it now: {said}")
