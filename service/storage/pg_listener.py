"""Forwarding of PostgreSQL notifications from other processes to the local signals.

A connection that listens may lead nowhere: through a connection pooler that lends sessions for a transaction, or to a
server that is no longer the one that is written to. So a note to ourselves is sent over the pool, and must arrive.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import text

from service.storage.database import Database
from service.storage.dialects import CHANNEL
from service.storage.pg_connect import connect
from service.storage.pg_sessions import set_up
from service.storage.pg_texts import UNHEARD, UNHEARD_FIX

RECONNECT_DELAY = 2.0
"""Seconds between attempts to connect; meanwhile the jobs find due rows on their intervals."""

NOTE_TIMEOUT = 5.0
"""Seconds within which a note to ourselves must arrive."""

PARTS = 5
"""Parts in which such a wait is divided."""

NOTE_INTERVAL = 30.0
"""Seconds without a notification after which another note is sent."""

UNHEARD_DELAY = 10.0
MAX_UNHEARD_DELAY = 600.0
"""Seconds until the next attempt to listen where notes do not arrive, at first, and after doubling again and again.

Each attempt disturbs the sessions of a pooler.
"""

TOPICS_AFTER_CONNECT = ("submit", "reconcile", "dispatch", "inbox", "events")
"""Topics that may have been notified without a connection."""

NOTIFY = text("SELECT pg_notify(:channel, :payload)")

log = structlog.get_logger("boomerang.storage")


class Unheard(Exception):
    """A note to ourselves did not arrive; `first` if none ever did over this connection."""

    def __init__(self, *, first: bool) -> None:
        super().__init__("a note to ourselves did not arrive")
        self.first = first


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[None]:
    """Forward notifications to the local signals inside the block; reconnect after a lost connection."""
    task = asyncio.create_task(_listen(database))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def check_listening(database: Database) -> None:
    """Listen for a moment, and raise Unheard if a note to ourselves does not arrive; other processes ignore it."""
    notes = _Notes(database)
    async with _subscribed(database) as connection:
        receiving = asyncio.create_task(notes.receive(connection))
        try:
            await notes.send_once(first=True)
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)


async def _listen(database: Database) -> None:
    logged = ""
    unheard_delay = UNHEARD_DELAY
    while True:
        delay = RECONNECT_DELAY
        try:
            async with _subscribed(database) as connection:
                logged = ""
                await _forward(database, connection)
        except Unheard as unheard:
            if unheard.first:
                if unheard_delay == UNHEARD_DELAY:
                    log.warning(UNHEARD, hint=UNHEARD_FIX)
                delay, unheard_delay = unheard_delay, min(unheard_delay * 2, MAX_UNHEARD_DELAY)
        except Exception as error:  # noqa: BLE001 - a later attempt may succeed after any error
            reason = " ".join(str(error).split())
            if reason != logged:  # not again on every attempt, unless the reason changes or a connection was made
                log.warning("listening interrupted", error=f"{type(error).__name__}: {reason}")
            logged = reason
        await asyncio.sleep(delay)


@asynccontextmanager
async def _subscribed(database: Database) -> AsyncIterator[psycopg.AsyncConnection]:
    server = database.listen_address.server
    if server is None:
        raise ValueError("only PostgreSQL sends notifications")
    connection = await connect(server)
    try:
        await set_up(connection, server, shared=server.pooled)  # without it, the server may end a session that is idle
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        yield connection
    except Unheard:
        with suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(NOTE_TIMEOUT):
                await connection.execute("UNLISTEN *")  # most likely in the session that listens
        raise
    finally:
        await connection.close()


async def _forward(database: Database, connection: psycopg.AsyncConnection) -> None:
    """Forward notifications; raises Unheard when a note to ourselves does not arrive."""
    database.signals.notify(*TOPICS_AFTER_CONNECT)
    notes = _Notes(database)
    tasks = [asyncio.create_task(notes.receive(connection)), asyncio.create_task(notes.send())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Notes:
    """The notes to ourselves that prove one connection, and the notifications that it receives."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._note = ""
        self._arrived = asyncio.Event()
        self._received = asyncio.Event()

    async def receive(self, connection: psycopg.AsyncConnection) -> None:
        """Forward notifications until the connection is lost."""
        async for notification in connection.notifies():
            self._received.set()
            content = _content(notification.payload)
            if content == {"note": self._note}:
                self._arrived.set()
            elif isinstance(content, list):
                self._database.signals.notify(*(topic for topic in content if isinstance(topic, str)))

    async def send(self) -> None:
        """Send a note at the start and after each silence; raises Unheard when one does not arrive in time."""
        first = True
        while True:
            await self.send_once(first=first)
            first = False
            while await _set_within(self._received, NOTE_INTERVAL):
                self._received.clear()
                await asyncio.sleep(NOTE_INTERVAL)

    async def send_once(self, *, first: bool) -> None:
        """Send a note; raises Unheard when it does not arrive in time."""
        self._note = uuid4().hex
        self._arrived.clear()
        await self._notify()
        if not await _set_within(self._arrived, NOTE_TIMEOUT):
            raise Unheard(first=first)

    async def _notify(self) -> None:
        async with self._database.writing() as write:
            payload = json.dumps({"note": self._note})
            await write.connection.execute(NOTIFY, {"channel": CHANNEL, "payload": payload})


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait in parts: after a pause of the whole process, what arrived meanwhile is read before the time is up."""
    for _ in range(PARTS):
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds / PARTS):
                return await event.wait()
    return False


def _content(payload: str) -> Any:
    """Return the content of a notification: a list of topics or a note; None if another program sent it."""
    try:
        return json.loads(payload)
    except ValueError:
        return None
