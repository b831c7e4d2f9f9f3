"""Notices a PostgreSQL that vanished without closing its connections: a stopped host, a proxy that forwards nothing.

A slow statement and a vanished server look alike to the connection that waits. So when an operation takes long, a new
connection asks the server. Without an answer the database counts as away: whatever waits for it fails at once, and so
does every new operation, until a later probe is answered. With an answer, slow operations continue; only those end
whose connection the server does not know, or from which it waits for a statement itself.

The server may not notice that a connection is lost, and keep its transaction with all locks. So the sessions of lost
connections are terminated as soon as it answers.
"""

import asyncio
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import structlog
from psycopg.pq import TransactionStatus
from sqlalchemy import event

from service.domain.errors import StoreUnavailable
from service.storage.async_engine import AsyncEngine
from service.storage.pg_address import PostgresAddress
from service.storage.pg_connect import connect, is_refusal
from service.storage.pg_sessions import SHARED

SLOW_AFTER = 1.5
"""Seconds that an operation may take before the server is asked whether it answers."""

PROBE_TIMEOUT = 2.0
"""Seconds for that answer; together with SLOW_AFTER less than the 5 seconds within which a callback is answered."""

PROBE_AGAIN = 10.0
"""Seconds until a slow operation leads to another probe."""

AWAY_INTERVAL = 1.0
"""Seconds between two probes of a database that is away."""

TICK = 0.1
"""Seconds of one wait for that answer: a busy process waits longer, as its answers may be there and not read yet."""

END_GRACE = 0.3
"""Seconds in which operations end by themselves after their connections are shut down."""

MESSAGE = "the database does not answer"
BACKENDS = """
    SELECT pid, state = 'active' OR state_change > clock_timestamp() - interval '1 second' OR state = 'disabled'
    FROM pg_stat_activity WHERE pid = ANY(%s)
"""

END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN unnest(%s::integer[], %s::float8[]) AS lost(pid, age)
    USING (pid) WHERE usename = current_user
    AND extract(epoch FROM clock_timestamp() - backend_start) BETWEEN age - 1 AND age + 60
"""
"""Another session may have the same number: a newer one, or one of the server that the address leads to now."""

log = structlog.get_logger("boomerang.storage")


class AnswerWatch:
    """Watches the operations and the connections of one engine."""

    def __init__(self, at: PostgresAddress, engine: AsyncEngine) -> None:
        self._at = at
        self._away = False
        self._answers = 0
        self._due: dict[asyncio.Timeout, float] = {}
        self._connections: WeakKeyDictionary[psycopg.AsyncConnection, float | None] = WeakKeyDictionary()
        """When each was made, None for one whose session is shared."""
        self._lost_sessions: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._check: asyncio.Task[None] | None = None
        event.listen(engine.sync_engine, "connect", self._connected)

    def began(self, operation: asyncio.Timeout) -> None:
        """Watch an operation until `ended`; raises StoreUnavailable at once while the database is away."""
        if self._away:
            raise StoreUnavailable(MESSAGE)
        loop = asyncio.get_running_loop()
        self._due[operation] = loop.time() + SLOW_AFTER
        if self._timer is None:
            self._timer = loop.call_later(SLOW_AFTER, self._probe_if_slow)

    def ended(self, operation: asyncio.Timeout) -> None:
        """Watch the operation no longer."""
        self._due.pop(operation, None)

    def answered(self) -> None:
        """Note that an operation has succeeded."""
        self._answers += 1

    async def close(self) -> None:
        """End the probes."""
        if self._timer:
            self._timer.cancel()
        if self._check:
            self._check.cancel()
            with suppress(asyncio.CancelledError):
                await self._check

    def _connected(self, connection: Any, record: Any) -> None:
        self._connections[connection.driver_connection] = None if SHARED in record.info else time.monotonic()

    def _probe_if_slow(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if not self._due or self._check:  # the check looks at what is left when it ends
            return
        first = min(self._due.values())
        if first > loop.time():
            self._timer = loop.call_at(first, self._probe_if_slow)
            return
        self._check = asyncio.create_task(self._probe(), name="database-check")
        self._check.add_done_callback(self._probed)

    def _probed(self, check: asyncio.Task[None]) -> None:
        self._check = None
        if not check.cancelled():
            if error := check.exception():
                log.error("database check failed", exc_info=error)
            self._probe_if_slow()

    async def _probe(self) -> None:
        """Ask the server until it answers."""
        while (lost := await self._lost_connections()) is None:
            if not self._away:
                self._away = True
                log.warning(MESSAGE, waiting=len(self._due))
                await self._fail_all()
            await asyncio.sleep(AWAY_INTERVAL)
        if self._away:
            self._away = False
            log.info("the database answers again")
        if lost:
            log.warning("connections to the database were lost without notice", count=len(lost))
            self._shut_down(lost)
        await self._end_lost_sessions()
        now = asyncio.get_running_loop().time()
        self._due.update({operation: now + PROBE_AGAIN for operation, due in self._due.items() if due <= now})

    async def _lost_connections(self) -> list[psycopg.AsyncConnection] | None:
        """Return our connections that no longer lead to the server, None if it gives no answer."""
        waiting, answers = self._waiting(), self._answers
        try:
            rows = await fetch_within(PROBE_TIMEOUT, self._at, BACKENDS, [[each.info.backend_pid for each in waiting]])
        except TimeoutError:
            return [] if self._answers > answers else None
        except (psycopg.Error, OSError) as error:  # without a server, what waits for an older connection waits in vain
            return [] if is_refusal(error) else waiting
        busy, still = {pid for pid, is_busy in rows if is_busy}, self._waiting()
        own = [each for each in waiting if each in still and self._connections[each] is not None]
        return [each for each in own if each.info.backend_pid not in busy]

    def _waiting(self) -> list[psycopg.AsyncConnection]:
        """Return the connections that wait for an answer of the server."""
        opened = [connection for connection in [*self._connections] if not connection.closed]
        return [each for each in opened if each.info.transaction_status is TransactionStatus.ACTIVE]

    async def _fail_all(self) -> None:
        """End every operation: its connection is shut down, and what has none yet is interrupted."""
        self._shut_down([*self._connections])
        await asyncio.sleep(END_GRACE)
        now = asyncio.get_running_loop().time()
        for operation in self._due:
            with suppress(RuntimeError):  # it is ending already
                operation.reschedule(now)

    def _shut_down(self, connections: Iterable[psycopg.AsyncConnection]) -> None:
        """Shut connections down, and note their sessions, which the server may keep."""
        for connection in connections:
            if not connection.closed and (opened_at := self._connections[connection]) is not None:
                self._lost_sessions[connection.info.backend_pid] = opened_at
        shut_down(connections)

    async def _end_lost_sessions(self) -> None:
        """Let the server end the sessions of lost connections that it has kept."""
        if not self._lost_sessions:
            return
        now, pids = time.monotonic(), [*self._lost_sessions]
        ages = [now - self._lost_sessions[pid] for pid in pids]
        with suppress(TimeoutError, psycopg.Error, OSError):  # those that stay end by themselves
            if ended := await fetch_within(PROBE_TIMEOUT, self._at, END_SESSIONS, [pids, ages]):
                log.info("the database has ended the sessions of lost connections", count=len(ended))
        self._lost_sessions.clear()


async def fetch_within(seconds: float, at: PostgresAddress, query: str, values: list[Any]) -> list[Any]:
    """Return the rows of a query over a new connection; raises OSError, TimeoutError or an error of the driver.

    After `seconds` the connection is shut down: cancelling the query would ask the server, and wait for it.
    """
    opened: list[psycopg.AsyncConnection] = []
    task = asyncio.create_task(_fetch(at, query, values, opened), name="database-probe")
    try:
        for _ in range(max(1, round(seconds / TICK))):
            if (await asyncio.wait([task], timeout=TICK))[0]:
                return task.result()
        raise TimeoutError
    finally:
        shut_down(opened)
        if opened:
            await asyncio.wait([task], timeout=END_GRACE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _fetch(
    at: PostgresAddress, query: str, values: list[Any], opened: list[psycopg.AsyncConnection]
) -> list[Any]:
    connection = await connect(at)
    opened.append(connection)
    try:
        return await (await connection.execute(query, values)).fetchall()
    finally:
        opened.remove(connection)
        await connection.close()


def shut_down(connections: Iterable[psycopg.AsyncConnection]) -> None:
    """Shut the sockets of `connections` down, so that whoever waits for them gets an error and does not wait longer."""
    for connection in connections:
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)
