"""psycopg's connection with fewer round trips: statements share them, and few pings are needed."""

import logging
import select
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import psycopg

from service.storage.deferred import Deferred

QUIET_SECONDS = 5.0
"""Time since the last statement after which a connection is asked whether it stands, before its next use."""

logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings repeat errors, and errors quote values


class Pipeline(psycopg.AsyncPipeline):
    """A pipeline whose last message is its Sync; that of psycopg sends a Flush behind it.

    PostgreSQL measures the time that a session is idle in a transaction from its ReadyForQuery, which follows a Sync,
    to the next message. Behind a Flush it would never end the session of a vanished process, nor release its locks.
    """

    def _exit_gen(self) -> Any:
        """Send what is left and a Sync, which also flushes the results, and fetch them."""
        try:
            self._enqueue_sync()
            yield from self._communicate_gen()
        finally:
            yield from self._fetch_gen(flush=False)


class Session(psycopg.AsyncConnection[Any]):
    """A connection whose transactions begin with a deferred BEGIN; without one its statements commit by themselves.

    A deferred statement shares the round trip of the next statement, or of the COMMIT: its rows are there after it, and
    its error is raised there.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deferred: list[Deferred] = []
        self._used_at = 0.0

    def begin(self, statement: str | None) -> None:
        """Begin a transaction with the next statement, or none; what was deferred before is dropped."""
        self._deferred = [Deferred(statement=statement, prepare=False)] if statement else []

    def defer(self, statement: Deferred) -> None:
        """Run a statement of the transaction together with the next one."""
        self._deferred.append(statement)

    @asynccontextmanager
    async def after_deferred(self, *, many: bool = False) -> AsyncIterator[None]:
        """Run the deferred statements before that of the block, in the same round trip where libpq can do so.

        With `many`, the block runs a statement for each set of parameters, for which psycopg needs a pipeline.
        """
        deferred, self._deferred = self._deferred, []
        if (deferred or many) and psycopg.AsyncPipeline.is_supported():
            self._pipeline = Pipeline(self)  # psycopg would make its own
            async with self.pipeline():
                cursors = await self._run(deferred)
                yield
        else:
            cursors = await self._run(deferred)
            yield
        for one, cursor in zip(deferred, cursors, strict=True):
            if one.returns:
                one.rows = await cursor.fetchall()
                one.types = tuple(column.type_code for column in cursor.description or ())
        self._used_at = time.monotonic()

    async def _run(self, statements: list[Deferred]) -> list[psycopg.AsyncCursor[Any]]:
        cursors = [psycopg.AsyncCursor(self) for _ in statements]
        for one, cursor in zip(statements, cursors, strict=True):
            await cursor.execute(one.statement, one.parameters, prepare=one.prepare)
        return cursors

    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Run one of psycopg's generators. One that was interrupted is closed at once.

        Left to the garbage collector, it would end on a closed connection, and Python would print its error.
        """
        try:
            return await super().wait(gen, *arguments, **options)
        except BaseException:
            for _ in range(2):  # its clean-up may want to wait for the server once more
                with suppress(psycopg.Error, RuntimeError):
                    gen.close()
            raise

    async def commit(self) -> None:
        """Commit the transaction, if any."""
        begun = self.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
        if begun or len(self._deferred) > 1:  # a BEGIN alone need not be sent
            async with self.after_deferred():
                await psycopg.AsyncCursor(self).execute("COMMIT", prepare=False)
        self._deferred = []

    async def rollback(self) -> None:
        """Roll back the transaction, if any."""
        self._deferred = []
        await super().rollback()

    def surely_stands(self) -> bool:
        """Return whether the server answered within QUIET_SECONDS, and has not ended or broken the connection since.

        A server that ends a connection says so: something can be read then, although nothing was asked.
        """
        if self.closed or time.monotonic() - self._used_at > QUIET_SECONDS or sys.platform == "win32":
            return False
        with suppress(OSError, psycopg.Error):
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            return not poll.poll(0)
        return False


class Cursor(psycopg.AsyncCursor[Any]):
    """A cursor of a `Session`, whose statements run after the deferred ones."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement."""
        session: Any = self.connection
        async with session.after_deferred():
            await super().execute(query, params, **options)
        return self

    async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Run a statement for each set of parameters."""
        session: Any = self.connection
        async with session.after_deferred(many=True):
            await super().executemany(query, params_seq, **options)
