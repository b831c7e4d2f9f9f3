"""Unusual defaults of a user or a database change nothing, directly and through a pooler of transactions."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from unittest.mock import MagicMock

import psycopg
import pytest
from sqlalchemy import make_url, text

from service.domain.errors import StoreUnavailable
from service.storage import Store, pg_sessions
from service.storage.pg_address import PostgresAddress
from tests.acceptance.processes import until
from tests.storage.builders import NOW, a_task, add_tasks, an_entry
from tests.storage.conftest import EmptyDatabase, Server
from tests.storage.test_inbox import *  # noqa: F403 - the central cases run with these defaults too
from tests.storage.test_unit_of_work import *  # noqa: F403
from tests.support import pgbouncer
from tests.support.postgres import create_database, drop_database

UNUSUAL = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "200ms",
    "idle_session_timeout": "1s",
    "transaction_timeout": "1s",
}


USER = "unusual"


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """A way to the server as a user with unusual defaults."""

    url: str
    pooled: bool


@pytest.fixture(scope="module", params=["direct", "pooled"])
def entry(request: pytest.FixtureRequest, postgres: Server) -> Iterator[ServerAddress]:
    """Yield the address of the server, directly or through a pooler."""
    with psycopg.connect(postgres.base_url, autocommit=True) as connection:
        with suppress(psycopg.errors.DuplicateObject):
            connection.execute(f"CREATE ROLE {USER} SUPERUSER LOGIN")
        for setting, value in UNUSUAL.items():
            connection.execute(f"ALTER ROLE {USER} SET {setting} = '{value}'")
    url = make_url(postgres.base_url).set(username=USER).render_as_string(hide_password=False)
    if request.param == "direct":
        yield ServerAddress(url=url, pooled=False)
        return
    if pgbouncer.PROGRAM is None:
        pytest.skip(pgbouncer.REASON)
    with pgbouncer.pgbouncer(url) as pooled:
        yield ServerAddress(url=pooled, pooled=True)


@pytest.fixture
def database(entry: ServerAddress, postgres: Server) -> Iterator[EmptyDatabase]:
    """Yield a migrated database."""
    direct = create_database(postgres.base_url, template=postgres.template)
    url = make_url(entry.url).set(database=make_url(direct).database)
    yield EmptyDatabase(url=url.render_as_string(hide_password=False), sessions=lambda: 0)
    drop_database(postgres.base_url, direct)


async def test_every_transaction_has_the_settings(store: Store) -> None:
    """Readers and writers see what the code relies on, in every session and after an error too."""
    show = text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
    wanted = {"TimeZone": "UTC", "DateStyle": "ISO, YMD", "bytea_output": "hex", "extra_float_digits": "1"}
    database = store._database
    for _ in range(8):
        with pytest.raises(ZeroDivisionError):
            async with database.writing():
                raise ZeroDivisionError
        async with database.reading() as reader, database.writing() as write:
            for connection in (reader, write.connection):
                rows = await connection.execute(show, {"names": list(wanted)})
                assert {row.name: row.setting for row in rows} == wanted
            isolation = [
                (await connection.execute(text("SHOW transaction_isolation"))).scalar_one()
                for connection in (reader, write.connection)
            ]
            assert isolation == ["repeatable read", "read committed"]


async def test_slow_statements_and_pauses_are_allowed(store: Store) -> None:
    """The limits of the database do not hold: ours do."""
    async with store._database.writing() as write:
        await write.connection.execute(text("SELECT pg_sleep(1.1)"))
        await asyncio.sleep(0.3)
    await asyncio.sleep(1.1)
    await add_tasks(store, a_task())


@pytest.mark.parametrize("many", [False, True])
async def test_session_that_is_idle_in_a_transaction_ends(store: Store, database: EmptyDatabase, many: bool) -> None:
    """The locks of a process that has vanished, or is stopped, are free soon: the server ends its session."""
    with pytest.raises(StoreUnavailable):
        await _idle(store, database.url, many=many)


async def _idle(store: Store, url: str, *, many: bool) -> None:
    """Do nothing in a transaction until its session has ended, after its BEGIN or a statement for `many` rows."""
    ending = "SELECT pg_backend_pid(), set_config('idle_in_transaction_session_timeout', '50ms', true)"
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    async with store._database.writing() as write, await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
        pid = (await write.connection.execute(text(ending))).scalar_one()
        if many:
            await write.connection.execute(
                text("UPDATE tasks SET note = NULL WHERE id = :id"), [{"id": "a"}, {"id": "b"}]
            )

        async def ended() -> bool:
            return (await (await other.execute(query, [pid])).fetchone()) == (0,)

        await until(ended, what="the end of the session", seconds=10)


async def test_sessions_are_left_as_they_were(store: Store, database: EmptyDatabase, entry: ServerAddress) -> None:
    """Through a pooler, other programs find their own settings and no prepared statement of the service."""
    await asyncio.gather(*(add_tasks(store, a_task(f"t{number}")) for number in range(12)))
    for number in range(12):
        await store.inbox.store_unread([an_entry(f"d{number}", verdict="unread")])
    assert (await store.health.gauges(NOW)).callbacks == {"unread": 12}
    for _ in range(8 if entry.pooled else 0):
        with psycopg.connect(database.url, prepare_threshold=None) as other:
            left = [other.execute(f"SHOW {name}").fetchone() for name in ("lock_timeout", "bytea_output")]
            assert left == [("1ms",), ("escape",)]
            assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


@pytest.mark.parametrize(
    ("code", "lost", "shared"),
    [
        ("25006", True, False),  # a server that only reads
        ("57P01", True, False),  # it stops
        ("57P02", True, False),  # it has crashed
        ("57P03", True, False),  # it starts
        ("08006", True, False),
        ("08P01", True, False),
        ("26000", True, True),  # a prepared statement of another session
        ("42P05", True, True),
        ("57014", False, False),  # a statement took too long
        ("40001", False, False),
        ("23505", False, False),
    ],
)
def test_errors_after_which_connections_are_replaced(code: str, lost: bool, shared: bool) -> None:
    """An error that another server may not have discards the connections; one of a statement does not."""
    sessions = pg_sessions._Sessions(PostgresAddress(parameters={}))
    context = MagicMock(original_exception=psycopg.errors.lookup(code)(), is_disconnect=False)
    sessions.failed(context)
    assert (context.is_disconnect, sessions._shared) == (lost, shared)


async def test_connections_have_a_maximum_age(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is too old is replaced before its next use."""

    async def driver() -> object:
        async with store._database.reading() as connection:
            return (await connection.get_raw_connection()).driver_connection

    pool = store._database._writer.pool
    assert pool._recycle == pg_sessions.MAX_AGE
    before = await driver()
    assert await driver() is before
    monkeypatch.setattr(pool, "_recycle", 0)
    assert await driver() is not before
