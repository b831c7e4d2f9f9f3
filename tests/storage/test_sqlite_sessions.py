"""Connections to SQLite: durable commits, waits for other writers, readers that cannot write, and the file's mode."""

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from service.domain.errors import StoreUnavailable
from service.storage import Store, migrate, open_store
from tests.storage.builders import a_task, add_tasks, stored
from tests.storage.conftest import EmptyDatabase

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

FULL = 2
SETTINGS = {"synchronous": FULL, "foreign_keys": 1, "journal_mode": "wal", "busy_timeout": 10_000}


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
