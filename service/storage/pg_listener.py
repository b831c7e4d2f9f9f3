"""Hears on PostgreSQL what other processes notify, and rings the local signals for it."""

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
"""Seconds before a lost connection is tried again; until then the polls find what is due."""

TOPICS_AFTER_CONNECT = ("submit", "reconcile", "dispatch", "inbox", "events")
"""What may have been rung while nobody listened."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[None]:
    """Ring the local signals for every note, inside the block; a lost connection is made anew."""
    task = asyncio.create_task(_listen(database))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _listen(database: Database) -> None:
    told = ""
    while True:
        try:
            async with _subscribed(database) as connection:
                told = ""
                await _hear(database, connection)
        except psycopg.Error as error:
            why = " ".join(str(error).split())
            if why != told:  # once, and not every two seconds, until it is another reason or heard again in between
                log.warning("listening interrupted", error=type(error).__name__, why=why)
            told = why
        await asyncio.sleep(RECONNECT_DELAY)


@asynccontextmanager
async def _subscribed(database: Database) -> AsyncIterator[psycopg.AsyncConnection]:
    address = database.address.url.set(drivername="postgresql").render_as_string(hide_password=False)
    made = psycopg.AsyncConnection.connect(address, autocommit=True, connect_timeout=10, **KEEPALIVES)
    async with await made as connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        yield connection


async def _hear(database: Database, connection: psycopg.AsyncConnection) -> None:
    database.signals.notify(*TOPICS_AFTER_CONNECT)
    async for note in connection.notifies():
        database.signals.notify(*_topics(note.payload))


def _topics(note: str) -> list[str]:
    try:
        topics: Any = json.loads(note)
    except ValueError:
        return []
    return [topic for topic in topics if isinstance(topic, str)] if isinstance(topics, list) else []
