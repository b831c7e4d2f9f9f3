"""NOTIFY topics: processes of different releases wake each other by them on PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg

from tests.storage.conftest import Server
from tests.support.postgres import create_database, drop_database
from tests.unit.frozen.bursts import BURST, burst
from tests.unit.frozen.provider import Script
from tests.unit.frozen.running import KEY, ROW, Running, serving
from tests.unit.frozen.snapshots import assert_words
from tests.unit.frozen.vtrix_scenario import CALLBACK_TOKENS, COMPLETED

CHANNEL = "boomerang"
TASK = "called"
TOPICS = {"submit", "reconcile", "dispatch", "events", f"task:{TASK}"}
OF_BURSTS = "inbox"
"""Notified only if the machine is fast enough for a burst of callbacks."""

SETTINGS = {
    "UPSTREAM_KEY": "any",
    "PUBLIC_URL": "http://localhost",
    "SECRET_KEYS": KEY,
    "CONFIRM": "never",
}


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """Insert a task in progress and yield a connection that listens to the channel."""
    now = datetime.now(UTC)
    times = {"created_at": now, "deadline_at": now + timedelta(hours=1), "submitted_at": now}
    flags = {name: bool(ROW[name]) for name in ("guessed", "unconfirmed")}
    row = ROW | times | flags | {"id": TASK, "upstream_id": "up-called", "params": "{}"}
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"INSERT INTO tasks ({names}) VALUES ({marks})".encode(), list(row.values()))  # noqa: S608 - our own words
        await connection.execute(f'LISTEN "{CHANNEL}"'.encode())
        yield connection


async def notified(connection: psycopg.AsyncConnection, *, seconds: float = 3) -> set[str]:
    """Return the notified topics once all have come, or after `seconds` without one."""
    found: set[str] = set()
    async for note in connection.notifies(timeout=seconds):
        found |= set(json.loads(note.payload))
        if found >= {*TOPICS, OF_BURSTS}:
            break
    return found


async def generate_notifications(service: Running) -> None:
    """Submit a task, then send an unreadable callback, a final one and a burst for another task."""
    await asyncio.to_thread(service.submit, "a cat")
    address = f"{service.url}/callbacks/{CALLBACK_TOKENS[TASK]}"
    async with httpx.AsyncClient(timeout=60) as client:
        for body in (b"<html>", json.dumps({"id": "up-called", **COMPLETED}).encode()):
            await client.post(address, content=body)
    bodies = [json.dumps({"id": "up-called", "status": "processing", "n": number}) for number in range(BURST)]
    await burst(service, CALLBACK_TOKENS[TASK], bodies)


async def test_notified_topics(postgres: Server, tmp_path: Path) -> None:
    """A web process notifies every topic under its name."""
    url = create_database(postgres.base_url, template=postgres.template)
    settings = SETTINGS | {"DATABASE_URL": url}
    with serving(tmp_path, Script(replies={}), settings, {}, role="web") as service:
        async with listening(url) as connection:
            await generate_notifications(service)
            found = await notified(connection)
    drop_database(postgres.base_url, url)
    assert_words("topics", found - {OF_BURSTS}, TOPICS)
