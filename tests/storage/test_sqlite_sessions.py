"""Connections to SQLite: durable commits, waits for other writers, readers that cannot write, and the file's mode."""

import asyncio
import sqlite3
import stat
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.domain.errors import StoreUnavailable
from service.domain.task import TaskId
from service.storage import Store, migrate, open_store
from service.storage.bulk_writes import insert_many
from service.storage.deferred import Deferred, defer
from service.storage.sqlite_driver import Connection
from service.storage.tables import inbox
from tests.storage.builders import (
    HOUR,
    NOW,
    a_delivery,
    a_task,
    add_tasks,
    admitted,
    an_entry,
    an_event,
    stored,
)
from tests.storage.conftest import EmptyDatabase

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

FULL = 2
SETTINGS = {
    "synchronous": FULL,
    "foreign_keys": 1,
    "journal_mode": "wal",
    "busy_timeout": 10_000,
    "wal_autocheckpoint": 4000,
}


@pytest.mark.parametrize(("name", "value"), SETTINGS.items())
async def test_every_connection_has_its_settings(store: Store, name: str, value: object) -> None:
    """A commit is on the disk when it is acknowledged, and nobody fails because another process writes for a moment."""
    database = store._database
    async with database.writing() as write, database.reading() as reader:
        for connection in (write.connection, reader):
            assert (await connection.execute(text(f"PRAGMA {name}"))).scalar_one() == value


async def test_reader_cannot_write(store: Store) -> None:
    """A query that would change something is refused on the connections of readers."""
    await add_tasks(store, a_task())
    with pytest.raises(StoreUnavailable, match="readonly"):
        async with store._database.reading() as reader:
            await reader.execute(text("UPDATE tasks SET note = 'changed'"))
    assert (await stored(store)).note is None


async def test_writer_takes_its_lock_at_the_beginning(store: Store, database: EmptyDatabase) -> None:
    """Two processes that read and then write do not invalidate each other: the second one waits from its first read."""
    path = database.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        async with store._database.writing() as write:
            await write.connection.execute(text("SELECT count(*) FROM tasks"))
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(add_tasks(store, a_task()))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        other.execute("ROLLBACK")
        await waiting


async def test_new_file_is_for_its_owner_alone(tmp_path: Path, database: EmptyDatabase) -> None:
    """Nobody else on the machine can read tasks and callbacks, in the file or beside it."""
    assert database.url.startswith("sqlite")
    path = tmp_path / "new.db"
    await migrate(f"sqlite:///{path}")
    async with open_store(f"sqlite:///{path}") as store:
        await add_tasks(store, a_task())
        assert _modes(tmp_path) == {0o600}


def _modes(directory: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir() if file.name.startswith("new.db")}


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that gets an item for each hop to the thread of a connection."""
    found: list[object] = []
    original = Connection._execute

    async def counted(connection: Connection, *arguments: Any, **options: Any) -> Any:
        found.append(arguments)
        return await original(connection, *arguments, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Connection, "_execute", counted)
    return found


async def test_callback_takes_two_hops(store: Store, hops: list[object]) -> None:
    """Locking its task and storing it, with the endpoints; its event, the delivery with its lease, and COMMIT."""
    await add_tasks(store, a_task("t1"))
    event = an_event("e1")
    hops.clear()
    async with store.units_of_work.transaction() as transaction:
        found, verdicts = await transaction.receive([TaskId("t1")], [an_entry()])
        await transaction.save([replace(found[TaskId("t1")], note="changed")])
        assert await transaction.endpoints_of({"anna"}) == []
        claims = await transaction.append([event], [a_delivery(event, leased_until=NOW + HOUR)])
    (claim,) = claims()
    assert (verdicts, claim.event, len(hops)) == (["new"], event, 2)
    assert (await stored(store)).note == "changed"


async def test_error_of_a_deferred_statement_rolls_back(store: Store) -> None:
    """The COMMIT that runs it fails, nothing of its transaction stays, and the next one succeeds."""

    async def fail() -> None:
        async with store._database.writing() as write:
            await insert_many(write.connection, inbox, [vars(an_entry())])
            defer(write.connection, Deferred(statement="UPDATE inbox SET verdict = NULL"))

    with pytest.raises(IntegrityError):
        await fail()
    async with store.units_of_work.transaction() as transaction:
        assert await admitted(transaction, [an_entry()]) == ["new"]


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "statement"])
async def test_cancelled_wait_leaves_no_part_of_a_transaction(store: Store, commits: bool) -> None:
    """What waits for the busy thread when its caller is cancelled runs as a whole, or is rolled back as a whole."""
    busy, free, read = asyncio.Event(), threading.Event(), text("SELECT count(*) FROM inbox")

    async def write_two() -> None:
        async with store._database.writing() as write:
            driver: Any = (await write.connection.get_raw_connection()).driver_connection
            if commits:
                await insert_many(write.connection, inbox, [vars(an_entry("d1"))])
                await write.connection.execute(read)
            driver._tx.put_nowait((None, free.wait))
            await insert_many(write.connection, inbox, [vars(an_entry("d2"))])
            busy.set()
            if not commits:
                await write.connection.execute(read)

    writing = asyncio.create_task(write_two())
    await busy.wait()
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.sleep(0)
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    async with store._database.reading() as reader:
        assert (await reader.execute(read)).scalar_one() == (2 if commits else 0)
