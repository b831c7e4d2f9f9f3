"""Sessions of PostgreSQL: time limits, isolation, and connections that the server has closed."""

import asyncio
import gc
import sys
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from service.domain.task import TaskId
from service.storage import Store
from service.storage.pg_driver import Session
from tests.storage.builders import a_task, add_tasks
from tests.storage.conftest import EmptyDatabase, OpenStore

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

LIMITS = {
    "statement_timeout": "1min",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "10s",
    "random_page_cost": "1.1",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "jit": "off",
}
COUNT = text("SELECT count(*) FROM tasks")


@pytest.mark.parametrize(("name", "value"), [*LIMITS.items(), ("TimeZone", "UTC")])
async def test_every_connection_has_its_settings(store: Store, name: str, value: str) -> None:
    """No statement, no wait for a lock and no idle transaction lasts without end, whoever reads or writes."""
    show = text("SELECT current_setting(:name)")
    database = store._database
    async with database.reading() as reader, database.writing() as write:
        for connection in (reader, write.connection):
            assert (await connection.execute(show, {"name": name})).scalar_one() == value


async def test_settings_outlast_a_rolled_back_transaction(store: Store) -> None:
    """The settings belong to the session: after an error the same connection still has them."""
    with pytest.raises(ZeroDivisionError):
        async with store._database.writing():
            raise ZeroDivisionError
    async with store._database.writing() as write:
        for name, value in LIMITS.items():
            assert (await write.connection.execute(text(f"SHOW {name}"))).scalar_one() == value


async def test_reader_sees_one_snapshot(store: Store, open_another: OpenStore) -> None:
    """Two queries of one reader agree, though another process commits between them; a reader cannot write."""
    async with store._database.reading() as reader:
        assert (await reader.execute(COUNT)).scalar_one() == 0
        await add_tasks(open_another(), a_task())
        assert (await reader.execute(COUNT)).scalar_one() == 0
        assert (await reader.execute(text("SHOW transaction_read_only"))).scalar_one() == "on"
    async with store._database.reading() as reader:
        assert (await reader.execute(COUNT)).scalar_one() == 1


async def test_writer_sees_what_others_have_committed(store: Store, open_another: OpenStore) -> None:
    """A writer that has waited for a lock counts what the holder of the lock has committed."""
    async with store._database.writing() as write:
        assert (await write.connection.execute(COUNT)).scalar_one() == 0
        await add_tasks(open_another(), a_task())
        assert (await write.connection.execute(COUNT)).scalar_one() == 1


async def test_connections_closed_by_the_server_are_replaced_unnoticed(store: Store, database: EmptyDatabase) -> None:
    """After a restart of the server or a cut of idle connections, the first write and the first read succeed."""
    for number in range(2):
        await add_tasks(store, a_task(f"t{number}"))
        assert await store.queries.task(TaskId(f"t{number}")) is not None
        await asyncio.to_thread(_end_sessions, database.url)
    await add_tasks(store, a_task("t3"))
    await asyncio.to_thread(_end_sessions, database.url)
    assert await store.queries.task(TaskId("t3")) is not None


def _checked(parameters: Mapping[str, str]) -> dict[str, bool]:
    """Return, for each limit of a connection, whether it is there."""
    limits = {
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 5000,
    }
    return {name: int(parameters.get(name, 0)) == value for name, value in limits.items()}


async def test_dead_servers_are_noticed_by_every_connection(store: Store) -> None:
    """A connection is made in ten seconds or not at all, and one to a machine that is gone ends within 20."""
    for engine in (store._database._writer, store._database._reader):
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
            assert all(_checked(driver.info.get_parameters()).values())


async def test_dead_servers_are_noticed_by_the_listener(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that waits for notifications has the same limits, though it is idle most of the time."""
    connect, made = Session.connect, asyncio.Queue[psycopg.AsyncConnection]()

    async def noted(*arguments: Any, **options: Any) -> psycopg.AsyncConnection:
        connection = await connect(*arguments, **options)
        made.put_nowait(connection)
        return connection

    monkeypatch.setattr(Session, "connect", noted)
    async with asyncio.timeout(20), store.listening():
        assert all(_checked((await made.get()).info.get_parameters()).values())


async def test_error_of_a_statement_does_not_show_its_values(store: Store) -> None:
    """The error of a failed statement may be logged, so it leaves out the values, which are those of clients."""
    statement = text("SELECT 1 / CAST(:zero AS integer), CAST(:value AS text)")
    with pytest.raises(DataError) as failed:
        async with store._database.writing() as write:
            await write.connection.execute(statement, {"zero": 0, "value": "a client text"})
    assert "a client text" not in str(failed.value)


def _end_sessions(url: str) -> None:
    """End every other session of the database, and wait until they are gone."""
    own = "datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {own}")  # noqa: S608


async def test_interrupted_statements_fail_no_more(database: EmptyDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was interrupted before the server had got it is not tried again when the garbage is collected."""
    errors: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    kept: list[object] = []  # as the traceback of a task does

    async def interrupted(gen: Any, *_arguments: Any, **_options: Any) -> None:
        kept.append(gen)
        next(gen)
        raise asyncio.CancelledError

    async def run(session: Session) -> None:
        async with session.after_deferred():
            await psycopg.AsyncCursor(session).execute("SELECT 1")
            monkeypatch.setattr("psycopg.waiting.wait_async", interrupted)

    async with await Session.connect(database.url, autocommit=True) as session:
        session.begin("BEGIN")
        with pytest.raises(asyncio.CancelledError):
            await run(session)
        session.pgconn.finish()
    monkeypatch.undo()
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    assert kept
    kept.clear()
    gc.collect()
    assert errors == []
