"""Fixtures: a workspace for each test, and a PostgreSQL server for those that require one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.environment import sqlite
from tests.acceptance.processes import Workspace
from tests.support.postgres import create_database, drop_database, running_postgres


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Yield a directory whose processes end with the test."""
    with Workspace(home=tmp_path / "workspace", forks=True) as workspace:
        yield workspace


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """Run a PostgreSQL server during the session."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def empty_postgres(workspace: Workspace, postgres_server_url: str) -> Iterator[str]:
    """Yield the address of an empty PostgreSQL database. The processes of the workspace end before it is dropped."""
    url = create_database(postgres_server_url)
    yield url
    workspace.end()
    drop_database(postgres_server_url, url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    """Return an empty database of each kind."""
    if request.param == "sqlite":
        return sqlite(workspace)
    url: str = request.getfixturevalue("empty_postgres")
    return url
