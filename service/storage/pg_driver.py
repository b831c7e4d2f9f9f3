"""psycopg's connection with fewer round trips: statements share them, and few pings are needed."""

import logging
import select
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, Self

import psycopg

QUIET_SECONDS = 5.0
"""Time since the last statement after which a connection is asked whether it stands, before its next use."""

logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings repeat errors, and errors quote values


class Deferred(NamedTuple):
    """A statement that runs before the next one; `prepare` is psycopg's option."""

    statement: str
    parameters: Any = None
    prepare: bool | None = None


class Session(psycopg.AsyncConnection[Any]):
    """A connection whose transactions begin with a deferred BEGIN; without one its statements commit by themselves.

    A deferred statement shares the round trip of the next statement, or of the COMMIT: its own result is not needed,
    and its error is raised there.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deferred: list[Deferred] = []
        self._used_at = 0.0

    def begin(self, statement: str | None) -> None:
        """Begin a transaction with the next statement, or none; what was deferred before is dropped."""
        self._deferred = [Deferred(statement, prepare=False)] if statement else []

    def defer(self, statement: str, parameters: Any = None) -> None:
        """Run a statement of the transaction together with the next one."""
        self._deferred.append(Deferred(statement, parameters))

    @asynccontextmanager
    async def after_deferred(self) -> AsyncIterator[None]:
        """Run the deferred statements before that of the block, in the same round trip where libpq can do so."""
        deferred, self._deferred = self._deferred, []
        if deferred and psycopg.AsyncPipeline.is_supported():
            async with self.pipeline():
                await self._run(deferred)
                yield
        else:
            await self._run(deferred)
            yield
        self._used_at = time.monotonic()

    async def _run(self, statements: list[Deferred]) -> None:
        for statement, parameters, prepare in statements:
            await psycopg.AsyncCursor(self).execute(statement, parameters, prepare=prepare)

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
        async with session.after_deferred():
            await super().executemany(query, params_seq, **options)
