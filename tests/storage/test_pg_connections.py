"""Pool, listener and migrations connect to the same place, whatever the form of the address."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest
from sqlalchemy import make_url, text

from service.domain.errors import BadSetting
from service.domain.ports.tasks import TaskFilter
from service.storage import Store, migrate, open_store
from tests.storage.builders import a_task, add_tasks
from tests.support.postgres import PostgresServer, create_database, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Yield a PostgreSQL server of our own."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def url(server: PostgresServer) -> str:
    """Return the address of an empty database."""
    return create_database(server.url)


def execute(url: str, statement: str) -> None:
    """Run a statement in the database at `url`."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


async def one_task_is_announced(address: str, listen_url: str | None = None) -> list[str]:
    """Migrate, store a task from another store, and return the ids that exist once the listener has announced it."""
    await migrate(address)
    async with open_store(address, listen_url=listen_url) as store, store.listening(), open_store(address) as other:
        await store.signals.wait("submit", 30)  # the first connection announces everything
        waiting = asyncio.create_task(store.signals.wait("submit", 30))
        await asyncio.sleep(0)
        await add_tasks(other, a_task())
        assert await waiting
        return [task.id for task in await store.queries.tasks(TaskFilter())]


@pytest.mark.parametrize("query", ["options=-c search_path=own", "options=-c%20search_path%3Down", "schema=own"])
async def test_search_path_holds_for_all(url: str, query: str) -> None:
    """The tables are created, written and read in the schema of the address."""
    execute(url, "CREATE SCHEMA own")
    assert await one_task_is_announced(f"{url}?{query}") == ["t1"]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT id FROM own.tasks").fetchall() == [("t1",)]


async def test_missing_schema_is_reported(url: str) -> None:
    """A search path that names nothing is a wrong setting; the message has the fix."""
    with pytest.raises(BadSetting, match=r"no schema of the search path nowhere exists.*CREATE SCHEMA"):
        await migrate(f"{url}?schema=nowhere")


@pytest.mark.parametrize("written", ["unusual%20user%40x:p%20w", "unusual user%40x:p w"])
async def test_blanks_and_escapes_in_names(server: PostgresServer, url: str, written: str) -> None:
    """A blank or an escaped character in a name means the same to all."""
    with suppress(psycopg.errors.DuplicateObject):
        execute(server.url, 'CREATE ROLE "unusual user@x" SUPERUSER LOGIN')
    assert await one_task_is_announced(url.replace("postgres@", f"{written}@")) == ["t1"]


async def test_socket_path(server: PostgresServer, url: str) -> None:
    """The address may name the directory of a Unix socket."""
    at = make_url(url)
    assert await one_task_is_announced(
        f"postgresql://postgres@:{at.port}/{at.database}?host={server.socket_directory}"
    ) == ["t1"]


@asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """Yield a port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


async def test_silent_and_refusing_hosts_are_passed_over(url: str) -> None:
    """Of several hosts the first one that answers is used; a dead one does not cost its whole time-out."""
    at = make_url(url)
    async with silent_port() as silent:
        hosts = f"127.0.0.1:1,127.0.0.1:{silent},127.0.0.1:{at.port}"
        async with asyncio.timeout(30):  # each of the connections would take ten seconds
            assert await one_task_is_announced(f"postgresql://postgres@{hosts}/{at.database}") == ["t1"]


async def test_writable_host_is_chosen_on_request(server: PostgresServer, url: str) -> None:
    """With `target_session_attrs` a standby that is named first is passed over."""
    at = make_url(url)
    with postgres_server(primary_url=server.url) as standby:
        hosts = f"127.0.0.1:{make_url(standby.url).port},127.0.0.1:{at.port}"
        address = f"postgresql://postgres@{hosts}/{at.database}?target_session_attrs=read-write"
        assert await one_task_is_announced(address) == ["t1"]


async def test_listen_url_is_used_for_listening(url: str) -> None:
    """The listener connects to the address of its own."""
    assert await one_task_is_announced(url, f"{url}?application_name=ears") == ["t1"]
    async with open_store(url, listen_url=f"{url}?application_name=ears") as store, store.listening():
        await store.signals.wait("submit", 30)
        assert await _names(store) == {"boomerang", "ears"}


def test_listen_url_must_name_postgres(url: str) -> None:
    """An address of SQLite is refused."""
    with pytest.raises(BadSetting, match="DATABASE_LISTEN_URL must begin with postgresql://"):
        open_store(url, listen_url="sqlite:///x.db")


@pytest.mark.parametrize("connections", [3, 5])
async def test_connections_are_limited(url: str, connections: int) -> None:
    """Pool and listener together stay one below the limit; that one asks whether the database answers."""
    await migrate(url)
    async with open_store(url, connections=connections) as store, store.listening():
        await store.signals.wait("submit", 30)
        await asyncio.gather(*(_slow_read(store) for _ in range(connections + 2)))
        await asyncio.gather(*(add_tasks(store, a_task(f"t{number}")) for number in range(20)))
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        async with store._database.reading() as connection:
            assert (await connection.execute(text(sessions))).scalar_one() == connections - 1


async def _slow_read(store: Store) -> None:
    async with store._database.reading() as connection:
        await connection.execute(text("SELECT pg_sleep(0.1)"))


async def test_connect_waits_while_the_server_is_full(server: PostgresServer, url: str) -> None:
    """Without a free connection, as while two releases overlap, an operation waits a moment instead of failing."""
    await migrate(url)
    with suppress(psycopg.errors.DuplicateObject):
        execute(server.url, "CREATE ROLE few LOGIN CONNECTION LIMIT 1")
    execute(url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO few")
    limited = url.replace("postgres@", "few@")
    other = await psycopg.AsyncConnection.connect(limited)
    async with open_store(limited) as store:
        reading = asyncio.create_task(store.queries.tasks(TaskFilter()))
        await asyncio.sleep(0.5)
        assert not reading.done()
        await other.close()
        assert await reading == []


async def test_own_connections_are_shared_while_the_server_is_full(server: PostgresServer, url: str) -> None:
    """Where the server gives a process fewer connections than its pool wants, its operations share those."""
    await migrate(url)
    with suppress(psycopg.errors.DuplicateObject):
        execute(server.url, "CREATE ROLE only_two LOGIN CONNECTION LIMIT 2")
    execute(url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO only_two")
    async with open_store(url.replace("postgres@", "only_two@")) as store:
        await asyncio.gather(*(_slow_read(store) for _ in range(12)))
        await asyncio.gather(*(add_tasks(store, a_task(f"t{number}")) for number in range(12)))
        assert len(await store.queries.tasks(TaskFilter())) == 12


async def _names(store: Store) -> set[str]:
    query = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
    async with store._database.reading() as connection:
        return set((await connection.execute(text(query))).scalars())
