"""Migrations, the files of SQLite, and addresses of databases."""

import asyncio
import stat
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, text

from service.domain.errors import BadSetting, SchemaBehind
from service.domain.ports.tasks import TaskFilter
from service.storage import Store, migrate, open_store
from service.storage.blob_store import sharing_from
from service.storage.column_types import EPOCH
from service.storage.health import SqlHealth
from service.storage.index_builds import BUILT
from service.storage.migrate import HEAD
from service.storage.migration_steps import MIGRATIONS
from service.storage.tables import metadata
from tests.storage.builders import NOW, a_task
from tests.storage.conftest import EmptyDatabase, Server
from tests.storage.held_locks import other_session
from tests.support.postgres import create_database, drop_database
from tests.upgrade.rows import engine, upgrade


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


@pytest.mark.parametrize("revision", [None, "0001", "0002"])
async def test_equal_inputs_are_shared_at_once_only_in_a_new_database(empty_url: str, revision: str | None) -> None:
    """Where an earlier release has run, its processes may still run: sharing begins when they have been replaced."""
    before = datetime.now(UTC)
    if revision is not None:
        at = engine(empty_url)
        upgrade(at, revision)
        at.dispose()
    await migrate(empty_url)
    async with open_store(empty_url) as store, store._database.reading() as connection:
        begins_at = await sharing_from(connection)
    assert begins_at is not None
    if revision is None:
        assert begins_at == EPOCH
    else:
        assert timedelta() <= begins_at - before - timedelta(hours=24) < timedelta(minutes=5)


async def test_concurrent_migrations_succeed(empty_url: str) -> None:
    """The later migrations wait and find nothing to do."""
    await asyncio.gather(*(migrate(empty_url) for _ in range(3)))
    async with open_store(empty_url) as store:
        assert await store.health.ready() is None


@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
async def test_migration_waits_for_no_table_that_others_need(empty_url: str) -> None:
    """A process of the previous release that stores an attempt locks the tables in another order, and goes on."""
    at = engine(empty_url)
    upgrade(at, "0003")
    at.dispose()
    async with other_session(EmptyDatabase(url=empty_url, sessions=lambda: 0)) as session:
        await session.run(sql.SQL("LOCK TABLE deliveries IN ROW EXCLUSIVE MODE"))
        migrating = asyncio.create_task(migrate(empty_url))
        await session.until_waiting(1)
        await session.run(sql.SQL("SELECT FROM tasks"))
    await migrating
    async with open_store(empty_url) as store:
        assert await store.health.ready() is None


@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
async def test_indexes_are_built_beside_writers(empty_url: str) -> None:
    """A build that waits for the end of a transaction holds up no other one that writes the same table."""
    at = engine(empty_url)
    upgrade(at, "0016")
    at.dispose()
    database, write = (
        EmptyDatabase(url=empty_url, sessions=lambda: 0),
        sql.SQL("LOCK TABLE tasks IN ROW EXCLUSIVE MODE"),
    )
    async with other_session(database) as session:
        await session.run(write)
        migrating = asyncio.create_task(migrate(empty_url))
        await session.until_waiting(1)
        async with other_session(database) as other:
            await other.run(write)
    await migrating
    assert await _valid(empty_url) == dict.fromkeys((index.name for index in BUILT), True)


@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("pooled", [False, True])
async def test_interrupted_build_is_made_again(empty_url: str, pooled: bool) -> None:
    """An index that a killed migration left behind, which nothing reads, is built anew; with a pooler in one go."""
    at = engine(empty_url)
    upgrade(at, "0016")
    at.dispose()
    begun, *_ = BUILT
    interrupted = f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{begun.name}'::regclass"  # noqa: S608
    await _run(empty_url, [begun.statement(), interrupted])
    await migrate(f"{empty_url}?pgbouncer=true" if pooled else empty_url)
    assert await _valid(empty_url) == dict.fromkeys((index.name for index in BUILT), True)


async def _valid(url: str) -> dict[str, bool]:
    """Return whether each of the new indexes can be read."""
    async with open_store(url) as store, store._database.reading() as connection:
        names = ", ".join(f"'{index.name}'" for index in BUILT)
        source = "pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        query = f"SELECT relname, indisvalid FROM {source} WHERE relname IN ({names})"  # noqa: S608 - our own names
        return {row["relname"]: row["indisvalid"] for row in (await connection.exec_driver_sql(query)).mappings()}


OTHERS = (
    "CREATE SCHEMA extensions",
    "CREATE TABLE extensions.spatial_ref_sys (srid int)",
    "CREATE TABLE extensions.alembic_version (version_num text)",
    "INSERT INTO extensions.alembic_version VALUES ('ae1027a6acf4')",
    "CREATE SCHEMA own",
)
EXTENSION_TABLE = (
    "CREATE TABLE spatial_ref_sys (srid int)",
    "ALTER EXTENSION plpgsql ADD TABLE spatial_ref_sys",
)


async def _run(url: str, statements: Iterable[str]) -> None:
    async with open_store(url) as store, store._database.writing() as write:
        for statement in statements:
            await write.connection.exec_driver_sql(statement)


async def test_tables_of_others_in_another_schema_do_not_matter(postgres: Server) -> None:
    """Tables that the search path reaches in another schema, a foreign version table too, are not in the way."""
    url = create_database(postgres.base_url)
    await _run(url, OTHERS)
    address = f"{url}?options=-c%20search_path%3Down,extensions"
    for _ in range(2):
        await migrate(address)
    async with open_store(address) as store:
        assert await store.health.ready() is None
    drop_database(postgres.base_url, url)


async def test_tables_of_extensions_do_not_matter(postgres: Server) -> None:
    """A table that an extension has made in our schema is not somebody else's; one of another program is."""
    url = create_database(postgres.base_url)
    await _run(url, EXTENSION_TABLE)
    await migrate(url)
    other = create_database(postgres.base_url)
    await _run(other, ["CREATE TABLE users (id int)"])
    with pytest.raises(BadSetting, match="holds something else"):
        await migrate(other)
    for each in (url, other):
        drop_database(postgres.base_url, each)


async def test_missing_schema_is_reported_with_its_fix(empty_url: str) -> None:
    """Readiness, writes and reads report a missing schema."""
    async with open_store(empty_url) as store:
        assert "boomerang migrate" in str(await store.health.ready())
        with pytest.raises(SchemaBehind, match="boomerang migrate"):
            await store.intake.add(a_task(), [], None)
        with pytest.raises(SchemaBehind):
            await store.health.gauges(NOW)


async def test_older_schema_is_not_ready(store: Store) -> None:
    """A database with an older schema version is not ready."""
    async with store._database.writing() as write:
        await write.connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert (
        await store.health.ready() == f'the database has schema 0000, this code needs {HEAD}: run "boomerang migrate"'
    )


async def test_newer_schema_is_ready_for_a_running_process(store: Store) -> None:
    """A newer release only adds to the schema: a running process continues, one that starts now does not."""
    assert await store.health.ready() is None
    async with store._database.writing() as write:
        await write.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert await store.health.ready() is None
    reason = await SqlHealth(store._database).ready()
    assert reason == f"the database has schema 9999, this code knows {HEAD} at most: start the newer release"


async def test_schema_of_another_application_is_never_ready(store: Store) -> None:
    """A foreign revision does not count as a newer one."""
    assert await store.health.ready() is None
    async with store._database.writing() as write:
        await write.connection.execute(text("UPDATE alembic_version SET version_num = 'ae1027a6acf4'"))
    assert "boomerang migrate" in str(await store.health.ready())


async def test_migrations_match_the_tables(store: Store) -> None:
    """Alembic finds no difference between the migrated database and the tables of the code."""

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with store._database.writing() as write:
        assert await write.connection.run_sync(differences) == []


def test_code_needs_the_newest_migration() -> None:
    """The newest migration is the version that readiness requires."""
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


async def test_only_the_owner_can_read_a_new_sqlite_file(tmp_path: Path) -> None:
    """The database holds secrets: its file and its journal have mode 0600."""
    path = tmp_path / "own.db"
    await migrate(f"sqlite:///{path}")
    async with open_store(f"sqlite:///{path}") as store:
        await store.intake.add(a_task(), [], None)
        modes = _modes(tmp_path)
    assert modes == {"own.db": 0o600, "own.db-wal": 0o600, "own.db-shm": 0o600}


def _modes(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}


async def test_sqlite_settings_are_durable(tmp_path: Path) -> None:
    """Writers use WAL and sync every commit; readers cannot write."""
    url = f"sqlite:///{tmp_path / 'own.db'}"
    await migrate(url)
    async with open_store(url) as store:
        async with store._database.writing() as write:
            actual = [
                (await write.connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
        async with store._database.reading() as connection:
            assert (await connection.exec_driver_sql("PRAGMA query_only")).scalar() == 1
    assert actual == ["wal", 2, 1, 10_000]


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "boomerang.db"])
def test_invalid_address_is_refused(url: str) -> None:
    """The message names the setting and the allowed values."""
    with pytest.raises(BadSetting, match=r"DATABASE_URL.*sqlite:///.*postgresql://"):
        open_store(url)


def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the message says what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(BadSetting, match="the extra `postgres` is missing"):
        open_store("postgres://localhost/x")


async def test_old_scheme_of_postgresql_is_accepted(postgres: Server) -> None:
    """`postgres://` means PostgreSQL; some platforms still use it."""
    url = create_database(postgres.base_url, template=postgres.template)
    async with open_store(url.replace("postgresql://", "postgres://")) as store:
        assert await store.health.ready() is None
    drop_database(postgres.base_url, url)
