"""Without a working database, callers get StoreUnavailable and no transaction is half done."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, OperationalError, ProgrammingError

from service.domain.errors import BadSetting, StoreUnavailable
from service.domain.task import TaskId
from service.storage import Store, migrate, open_store, sqlite_driver
from service.storage import database as database_module
from tests.storage.builders import NOW, a_blob, a_task, admitted, an_entry
from tests.support.postgres import PostgresServer, create_database, postgres_server


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return a migrated SQLite file."""
    path = tmp_path / "store.db"
    await migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    """Yield the store on that file."""
    async with open_store(f"sqlite:///{path}") as store:
        yield store


async def _pragma(store: Store, pragma: str) -> None:
    async with store._database._writer.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute(f"PRAGMA {pragma}")  # without a transaction: BEGIN IMMEDIATE fails on a read-only database


async def _admit(store: Store) -> list[str]:
    async with store.units_of_work.transaction() as transaction:
        return await admitted(transaction, [an_entry(body=bytes(5_000))])


async def test_locked_database_is_unavailable_until_it_is_free(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes for too long, ours times out; afterwards writes succeed."""
    monkeypatch.setattr(sqlite_driver, "SQLITE_PRAGMAS", ("PRAGMA busy_timeout = 20",))
    other = sqlite3.connect(path, isolation_level=None)
    async with open_store(f"sqlite:///{path}") as store:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await _admit(store)
        assert await store.queries.task(TaskId("t1")) is None
        other.execute("COMMIT")
        other.close()
        assert await _admit(store) == ["new"]


async def test_full_disk_is_unavailable_and_leaves_nothing(store: Store) -> None:
    """A write without free space is rolled back; with free space it succeeds."""
    await _pragma(store, "max_page_count = 1")  # SQLite uses the current size instead
    with pytest.raises(StoreUnavailable, match="full"):
        await store.intake.add(a_task(), [a_blob(data=bytes(1_000_000))], None)
    assert await store.queries.task(TaskId("t1")) is None
    await _pragma(store, "max_page_count = 1000000")
    assert await store.intake.add(a_task(), [a_blob()], None) == a_task()


async def test_read_only_database_is_unavailable_for_writes(store: Store) -> None:
    """Reads continue, writes are refused."""
    await _pragma(store, "query_only = ON")
    with pytest.raises(StoreUnavailable, match="readonly"):
        await _admit(store)
    assert await store.queries.task(TaskId("t1")) is None


@pytest.mark.parametrize(
    ("pragma", "end", "expected"),
    [
        ("max_page_count = 1", "max_page_count = 1000000", "full"),  # SQLite uses the current size instead
        ("query_only = ON", "query_only = OFF", "readonly"),
    ],
)
async def test_inbox_batch_is_stored_as_a_whole_or_not(store: Store, pragma: str, end: str, expected: str) -> None:
    """A failed batch raises, readiness reports it, and a later write succeeds."""
    rows = [an_entry(f"d{number}", body=bytes(50_000), verdict="unread") for number in range(40)]
    await _pragma(store, pragma)
    with pytest.raises(StoreUnavailable, match=expected):
        await store.inbox.store_unread(rows)
    assert store._database.write_failed
    assert await store.inbox.unread_since() is None
    await _pragma(store, end)
    assert await store.inbox.store_unread(rows) == set()
    assert (await store.health.gauges(NOW)).callbacks == {"unread": 40}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProgrammingError("SELECT", {}, sqlite3.ProgrammingError("permission denied")), StoreUnavailable),
        (DatabaseError("SELECT", {}, sqlite3.DatabaseError("something new")), StoreUnavailable),
        (DataError("SELECT", {}, sqlite3.DataError("value too long")), DataError),
        (IntegrityError("SELECT", {}, sqlite3.IntegrityError("taken")), IntegrityError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_only_errors_about_values_pass_untranslated(error: Exception, expected: type[Exception]) -> None:
    """Every other driver error may be temporary, so it becomes StoreUnavailable."""
    with pytest.raises(expected):
        async with database_module.database_errors_translated():
            raise error


async def test_closed_connection_is_replaced(store: Store) -> None:
    """The write that meets a closed connection fails; the next one gets another connection."""
    async with store._database._writer.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.close()
    with pytest.raises(StoreUnavailable, match="no active connection"):
        await store.inbox.store_unread([an_entry(verdict="unread")])
    assert await store.inbox.store_unread([an_entry(verdict="unread")]) == set()
    assert await store.inbox.unread_since() == NOW


async def test_failed_begin_does_not_lead_to_autocommit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement after a failed BEGIN still runs in a transaction, which is rolled back."""
    monkeypatch.setattr(sqlite_driver, "SQLITE_PRAGMAS", ("PRAGMA busy_timeout = 20",))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with open_store(f"sqlite:///{path}") as store:
            with pytest.raises(ZeroDivisionError):
                await _ignore_failed_begin(store, other)
            assert (await store.health.gauges(NOW)).callbacks == {}


async def _ignore_failed_begin(store: Store, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    async with store.units_of_work.transaction() as transaction:
        with pytest.raises(OperationalError, match="locked"):
            await admitted(transaction, [an_entry()])
        other.execute("ROLLBACK")
        assert await admitted(transaction, [an_entry()]) == ["new"]
        raise ZeroDivisionError


async def test_failed_commit_holds_no_lock(store: Store, path: Path) -> None:
    """A commit that fails is rolled back at once, so that others can write."""
    async with store._database.writing() as write:
        await write.connection.exec_driver_sql("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        await write.connection.exec_driver_sql(
            "CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
        )
    with pytest.raises(IntegrityError):
        async with store._database.writing() as write:
            await write.connection.exec_driver_sql("INSERT INTO child VALUES (1)")
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
    assert await _admit(store) == ["new"]


async def test_read_only_store_is_not_ready(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed write, readiness tries another write; its row is deleted again."""
    monkeypatch.setattr(sqlite_driver, "SQLITE_PRAGMAS", ("PRAGMA busy_timeout = 20",))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with open_store(f"sqlite:///{path}") as store:
            other.execute("BEGIN IMMEDIATE")
            assert await store.health.ready() is None
            with pytest.raises(StoreUnavailable):
                await _admit(store)
            assert "locked" in str(await store.health.ready())
            other.execute("COMMIT")
            assert await store.health.ready() is None
            assert not store._database.write_failed
        assert other.execute("SELECT count(*) FROM polls").fetchone() == (0,)


async def test_removed_file_is_unavailable(store: Store, path: Path) -> None:
    """No write into a removed file is acknowledged; readiness reports it."""
    await asyncio.to_thread(path.rename, path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailable, match="gone"):
        await _admit(store)
    assert "gone" in str(await store.health.ready())


def test_file_that_cannot_be_created_is_unavailable(tmp_path: Path) -> None:
    """A missing directory, or a file that is not a database, is reported at once."""
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:///{tmp_path}/missing/store.db")
    (tmp_path / "text.db").write_text("this is no database at all, only some text\n" * 100)
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:///{tmp_path}/text.db")


async def test_errors_do_not_contain_stored_values(store: Store) -> None:
    """Neither the error nor its cause contains a body."""
    await _pragma(store, "query_only = ON")
    with pytest.raises(StoreUnavailable) as caught:
        await store.intake.add(a_task(params={"prompt": "very private"}), [], None)
    assert "very private" not in f"{caught.value} {caught.value.__cause__}"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Yield a PostgreSQL server of our own, which tests may stop."""
    with postgres_server(durable=True) as server:
        yield server


async def test_unknown_option_in_the_address_is_reported(server: PostgresServer) -> None:
    """An option that the driver does not know is a wrong setting, not an internal error."""
    with pytest.raises(BadSetting, match='invalid connection option "foo"'):
        await migrate(f"{server.url}?foo=bar")


async def test_restart_of_postgres_is_survived(server: PostgresServer) -> None:
    """While the server is down writes are refused; afterwards committed rows are there and writes succeed."""
    url = create_database(server.url)
    await migrate(url)
    async with open_store(url) as store, store.listening():
        await store.intake.add(a_task(), [], None)
        server.stop("immediate")
        with pytest.raises(StoreUnavailable):
            await _admit(store)
        assert "database" in str(await store.health.ready())
        server.start()
        assert await store.health.ready() is None
        assert await store.queries.task(TaskId("t1")) == a_task()
        assert await _admit(store) == ["new"]


async def test_connection_lost_inside_a_transaction_leaves_nothing(server: PostgresServer) -> None:
    """A crash of the server during a transaction raises, and nothing of the transaction is stored."""
    url = create_database(server.url)
    await migrate(url)
    async with open_store(url) as store:
        with pytest.raises(StoreUnavailable):
            await _crash_half_way(store, server)
        assert (await store.health.gauges(NOW)).callbacks == {}


async def test_hanging_server_times_out(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement without an answer ends in an error; the next write uses another connection."""
    url = create_database(server.url)
    await migrate(url)
    async with open_store(url) as store:
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await _hang_half_way(store, monkeypatch)
        assert await _admit(store) == ["new"]


async def _hang_half_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "TRANSACTION_TIMEOUT", 0.5)
    async with store._database.writing() as write:
        backend = (await write.connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        os.kill(backend, signal.SIGSTOP)
        try:
            await write.connection.execute(text("SELECT 1"))
        finally:
            monkeypatch.undo()
            os.kill(backend, signal.SIGCONT)


async def _crash_half_way(store: Store, server: PostgresServer) -> None:
    async with store.units_of_work.transaction() as transaction:
        await admitted(transaction, [an_entry()])
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.to_thread(server.start)
        await admitted(transaction, [an_entry("d2")])
