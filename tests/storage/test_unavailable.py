"""When the database cannot take a write, the caller hears it, and nothing is half done."""

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
from service.storage import Store, dialects, migrate, open_store
from service.storage import database as database_module
from tests.storage.builders import NOW, a_task, an_entry, an_input
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
        await driver.execute(f"PRAGMA {pragma}")  # in no transaction: what can only be read begins none that writes


async def _admit(store: Store) -> list[str]:
    async with store.units_of_work.transaction() as transaction:
        return await transaction.admit([an_entry(body=bytes(5_000))])


async def test_locked_database_is_unavailable_until_it_is_free(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes too long, ours gives up; afterwards it goes on."""
    monkeypatch.setattr(dialects, "SQLITE_PRAGMAS", ("PRAGMA busy_timeout = 20",))
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
    """A write that finds no room is rolled back; with room again it succeeds."""
    await _pragma(store, "max_page_count = 1")  # SQLite takes the present size instead
    with pytest.raises(StoreUnavailable, match="full"):
        await store.intake.add(a_task(), [an_input(data=bytes(1_000_000))], None)
    assert await store.queries.task(TaskId("t1")) is None
    await _pragma(store, "max_page_count = 1000000")
    assert await store.intake.add(a_task(), [an_input()], None) == a_task()


async def test_read_only_database_is_unavailable_for_writes(store: Store) -> None:
    """Reads go on, writes are refused."""
    await _pragma(store, "query_only = ON")
    with pytest.raises(StoreUnavailable, match="readonly"):
        await _admit(store)
    assert await store.queries.task(TaskId("t1")) is None


@pytest.mark.parametrize(
    ("trouble", "end", "told"),
    [
        ("max_page_count = 1", "max_page_count = 1000000", "full"),  # SQLite takes the present size instead
        ("query_only = ON", "query_only = OFF", "readonly"),
    ],
)
async def test_callback_that_cannot_be_kept_is_not_half_kept(store: Store, trouble: str, end: str, told: str) -> None:
    """A crowd is kept whole or not at all; the trouble is told, readiness knows of it, and later it succeeds."""
    rows = [an_entry(f"d{number}", body=bytes(50_000), verdict="unread") for number in range(40)]
    await _pragma(store, trouble)
    with pytest.raises(StoreUnavailable, match=told):
        await store.inbox.keep(rows)
    assert store._database.write_failed
    assert await store.inbox.unread_since() is None
    await _pragma(store, end)
    assert await store.inbox.keep(rows) == set()
    assert (await store.health.gauges(NOW)).callbacks == {"unread": 40}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProgrammingError("SELECT", {}, sqlite3.ProgrammingError("permission denied")), StoreUnavailable),
        (DatabaseError("SELECT", {}, sqlite3.DatabaseError("something new")), StoreUnavailable),
        (DataError("SELECT", {}, sqlite3.DataError("value too long")), DataError),
        (IntegrityError("SELECT", {}, sqlite3.IntegrityError("taken")), IntegrityError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_only_errors_about_values_pass_untranslated(error: Exception, told: type[Exception]) -> None:
    """Whatever a driver says that the values did not bring about may pass: it is tried again."""
    with pytest.raises(told):
        async with database_module.database_errors_translated():
            raise error


async def test_connection_that_was_closed_is_replaced(store: Store) -> None:
    """Whoever meets it hears that it did not work; the next one gets another connection."""
    async with store._database._writer.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.close()
    with pytest.raises(StoreUnavailable, match="no active connection"):
        await store.inbox.keep([an_entry(verdict="unread")])
    assert await store.inbox.keep([an_entry(verdict="unread")]) == set()
    assert await store.inbox.unread_since() == NOW


async def test_nothing_slips_out_of_a_transaction_that_could_not_begin(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever overlooks that another process wrote still writes in a transaction, which is rolled back."""
    monkeypatch.setattr(dialects, "SQLITE_PRAGMAS", ("PRAGMA busy_timeout = 20",))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with open_store(f"sqlite:///{path}") as store:
            with pytest.raises(ZeroDivisionError):
                await _overlook(store, other)
            assert (await store.health.gauges(NOW)).callbacks == {}


async def _overlook(store: Store, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    async with store.units_of_work.transaction() as transaction:
        with pytest.raises(OperationalError, match="locked"):
            await transaction.admit([an_entry()])
        other.execute("ROLLBACK")
        assert await transaction.admit([an_entry()]) == ["new"]
        raise ZeroDivisionError


async def test_commit_that_fails_holds_no_lock(store: Store, path: Path) -> None:
    """What cannot be committed is rolled back there and then, so that others may write."""
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


async def test_store_that_can_only_be_read_is_not_ready(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a write that failed, readiness is the word of another write; what that writes is not there afterwards."""
    monkeypatch.setattr(dialects, "SQLITE_PRAGMAS", ("PRAGMA busy_timeout = 20",))
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
    """Nothing is acknowledged into a file that nobody will find again; readiness says so."""
    await asyncio.to_thread(path.rename, path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailable, match="gone"):
        await _admit(store)
    assert "gone" in str(await store.health.ready())


def test_file_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """A directory that is not there, or a file that is no database, is told at once."""
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:///{tmp_path}/missing/store.db")
    (tmp_path / "text.db").write_text("this is no database at all, only some text\n" * 100)
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:///{tmp_path}/text.db")


async def test_no_error_tells_what_was_stored(store: Store) -> None:
    """Neither the error nor its cause repeats a body."""
    await _pragma(store, "query_only = ON")
    with pytest.raises(StoreUnavailable) as caught:
        await store.intake.add(a_task(params={"prompt": "very private"}), [], None)
    assert "very private" not in f"{caught.value} {caught.value.__cause__}"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Yield a PostgreSQL of our own, which may be stopped."""
    with postgres_server(durable=True) as server:
        yield server


async def test_an_unknown_option_in_the_address_is_told(server: PostgresServer) -> None:
    """What the driver does not know, behind the address's question mark, is a wrong setting and no fault of ours."""
    with pytest.raises(BadSetting, match='invalid connection option "foo"'):
        await migrate(f"{server.url}?foo=bar")


async def test_postgres_restart_is_survived(server: PostgresServer) -> None:
    """While the server is down writes are refused; when it is back, what was committed is there and work goes on."""
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
    """A crash of the server in the middle of a transaction is told, and nothing of it stays."""
    url = create_database(server.url)
    await migrate(url)
    async with open_store(url) as store:
        with pytest.raises(StoreUnavailable):
            await _crash_half_way(store, server)
        assert (await store.health.gauges(NOW)).callbacks == {}


async def test_a_server_that_hangs_is_given_up(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that takes a statement and never answers ends in an error; the next write takes another one."""
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
        await transaction.admit([an_entry()])
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.to_thread(server.start)
        await transaction.admit([an_entry("d2")])
