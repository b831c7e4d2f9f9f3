"""The store on each database: each test has an empty, migrated one, and no connection may stay open."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.storage import Store, migrate, open_store
from tests.support.postgres import connections, create_database, drop_database, running_postgres
from tests.support.reused_databases import ReusedDatabases

OpenStore = Callable[[], Store]
"""Opens one more store on the test's database, as another process would."""


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated SQLite file."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@dataclass(frozen=True, kw_only=True)
class Server:
    """A PostgreSQL server, and the migrated database to copy."""

    base_url: str
    template: str
    databases: ReusedDatabases


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Yield a real PostgreSQL."""
    with running_postgres() as base_url:
        template = create_database(base_url)
        asyncio.run(migrate(template))
        databases = ReusedDatabases(base_url, template)
        yield Server(base_url=base_url, template=template, databases=databases)
        databases.close()
        drop_database(base_url, template)


@dataclass(kw_only=True)
class EmptyDatabase:
    """An empty database that belongs to one test."""

    url: str
    sessions: Callable[[], int]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmptyDatabase]:
    """Yield a migrated, empty database of each kind, and check that no connection to it stays open."""
    if request.param == "sqlite":
        path = tmp_path / "store.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield EmptyDatabase(url=f"sqlite:///{path}", sessions=lambda: _open_files(path))
        assert _open_files(path) == 0
        return
    server: Server = request.getfixturevalue("postgres")
    url = server.databases.take()
    yield EmptyDatabase(url=url, sessions=lambda: connections(server.base_url, url))
    assert _none_within(lambda: connections(server.base_url, url), seconds=10)
    server.databases.release(url)


@pytest.fixture
async def open_another(database: EmptyDatabase) -> AsyncIterator[OpenStore]:
    """Yield a function that opens further stores on the same database."""
    async with AsyncExitStack() as stack:

        def open_one() -> Store:
            store = open_store(database.url)
            stack.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
async def store(open_another: OpenStore) -> Store:
    """Return the store on an empty database."""
    return open_another()


def _open_files(path: Path) -> int:
    links = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(_target(link).startswith(str(path)) for link in links)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - a descriptor may name no path
    except OSError:
        return ""


def _none_within(number: Callable[[], int], *, seconds: float) -> bool:
    """Return whether `number` becomes 0 in `seconds`; a session ends shortly after its connection is closed."""
    deadline = time.monotonic() + seconds
    while number():
        if time.monotonic() > deadline:
            return False
    return True
