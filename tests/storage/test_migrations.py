"""How a database gets its schema."""

import asyncio
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.domain.errors import BadSetting, SchemaBehind
from service.domain.ports.tasks import TaskFilter
from service.storage import Store, migrate, open_store
from service.storage.health import SqlHealth
from service.storage.migrate import HEAD, MIGRATIONS
from service.storage.tables import metadata
from tests.storage.builders import NOW, a_task
from tests.storage.conftest import Server
from tests.support.postgres import create_database, drop_database


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the address of a database without any schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    server: Server = request.getfixturevalue("postgres")
    url = create_database(server.base_url)
    yield url
    drop_database(server.base_url, url)


async def test_migrating_twice_keeps_everything(empty_url: str) -> None:
    """A second migration changes nothing."""
    await migrate(empty_url)
    async with open_store(empty_url) as store:
        await store.intake.add(a_task(), [], None)
    await migrate(empty_url)
    async with open_store(empty_url) as store:
        assert await store.queries.tasks(TaskFilter()) == [a_task()]


async def test_two_migrations_at_once_both_succeed(empty_url: str) -> None:
    """Whoever comes second waits, and finds nothing to do."""
    await asyncio.gather(*(migrate(empty_url) for _ in range(3)))
    async with open_store(empty_url) as store:
        assert await store.health.ready() is None


async def test_database_without_schema_says_what_to_run(empty_url: str) -> None:
    """Neither readiness nor a write nor a read passes over a missing schema."""
    async with open_store(empty_url) as store:
        assert "boomerang migrate" in str(await store.health.ready())
        with pytest.raises(SchemaBehind, match="boomerang migrate"):
            await store.intake.add(a_task(), [], None)
        with pytest.raises(SchemaBehind):
            await store.health.gauges(NOW)


async def test_older_schema_is_not_ready(store: Store) -> None:
    """A database that stands at another step is told apart."""
    async with store._database.writing() as write:
        await write.connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert (
        await store.health.ready() == f'the database has schema 0000, this code needs {HEAD}: run "boomerang migrate"'
    )


async def test_newer_schema_is_ready_for_who_runs_already(store: Store) -> None:
    """A newer release only adds to the schema: a running process goes on beside it; one that starts now does not."""
    assert await store.health.ready() is None
    async with store._database.writing() as write:
        await write.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert await store.health.ready() is None
    said = await SqlHealth(store._database).ready()
    assert said == f"the database has schema 9999, this code knows {HEAD} at most: start the newer release"


async def test_schema_of_another_application_is_never_ready(store: Store) -> None:
    """A revision that is none of ours is not taken for a newer one of ours."""
    assert await store.health.ready() is None
    async with store._database.writing() as write:
        await write.connection.execute(text("UPDATE alembic_version SET version_num = 'ae1027a6acf4'"))
    assert "boomerang migrate" in str(await store.health.ready())


async def test_migrations_and_tables_say_the_same(store: Store) -> None:
    """Alembic finds no difference between the migrated database and the tables of the code."""

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with store._database.writing() as write:
        assert await write.connection.run_sync(differences) == []


def test_code_needs_the_newest_migration() -> None:
    """The head of the migrations is the one that readiness asks for."""
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


async def test_new_sqlite_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """The database holds secrets: nobody else may read it, nor its journal."""
    path = tmp_path / "own.db"
    await migrate(f"sqlite:///{path}")
    async with open_store(f"sqlite:///{path}") as store:
        await store.intake.add(a_task(), [], None)
        modes = _modes(tmp_path)
    assert modes == {"own.db": 0o600, "own.db-wal": 0o600, "own.db-shm": 0o600}


def _modes(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}


async def test_sqlite_is_as_durable_as_promised(tmp_path: Path) -> None:
    """Writers use WAL and sync every commit; readers can write nothing."""
    url = f"sqlite:///{tmp_path / 'own.db'}"
    await migrate(url)
    async with open_store(url) as store:
        async with store._database.writing() as write:
            told = [
                (await write.connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
        async with store._database.reading() as connection:
            assert (await connection.exec_driver_sql("PRAGMA query_only")).scalar() == 1
    assert told == ["wal", 2, 1, 10_000]


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "boomerang.db"])
def test_address_that_is_none_is_refused(url: str) -> None:
    """The message names the setting and what is allowed."""
    with pytest.raises(BadSetting, match=r"DATABASE_URL.*sqlite:///.*postgresql://"):
        open_store(url)


def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the message says what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(BadSetting, match="the extra `postgres` is missing"):
        open_store("postgres://localhost/x")


async def test_old_form_of_the_address_is_understood(postgres: Server) -> None:
    """`postgres://` means PostgreSQL, as platforms still write it."""
    url = create_database(postgres.base_url, template=postgres.template)
    async with open_store(url.replace("postgresql://", "postgres://")) as store:
        assert await store.health.ready() is None
    drop_database(postgres.base_url, url)
