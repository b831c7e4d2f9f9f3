"""Forwarding of PostgreSQL notifications from other processes to the local signals."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import structlog
from psycopg import sql

from service.storage.database import Database
from service.storage.dialects import CHANNEL, KEEPALIVES

RECONNECT_DELAY = 2.0
"""Seconds between attempts to connect; meanwhile the jobs find due rows on their intervals."""

TOPICS_AFTER_CONNECT = ("submit", "reconcile", "dispatch", "inbox", "events")
"""Topics that may have been notified without a connection."""

log = structlog.get_logger("boomerang.storage")


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


async def _listen(database: Database) -> None:
    logged = ""
    while True:
        try:
            async with _subscribed(database) as connection:
                logged = ""
                await _forward(database, connection)
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            if reason != logged:  # not again on every attempt, unless the reason changes or a connection was made
                log.warning("listening interrupted", error=f"{type(error).__name__}: {reason}")
            logged = reason
        await asyncio.sleep(RECONNECT_DELAY)


@asynccontextmanager
async def _subscribed(database: Database) -> AsyncIterator[psycopg.AsyncConnection]:
    url = database.address.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connecting = psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10, **KEEPALIVES)
    async with await connecting as connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        yield connection


async def _forward(database: Database, connection: psycopg.AsyncConnection) -> None:
    database.signals.notify(*TOPICS_AFTER_CONNECT)
    async for notification in connection.notifies():
        database.signals.notify(*_topics(notification.payload))


def _topics(payload: str) -> list[str]:
    """Return the topics of a notification; none if another program sent it."""
    try:
        topics: Any = json.loads(payload)
    except ValueError:
        return []
    return [topic for topic in topics if isinstance(topic, str)] if isinstance(topics, list) else []
