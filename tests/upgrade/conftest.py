"""Fixtures: a workspace, a database of each kind, and the source tree of each earlier release."""

from pathlib import Path

import pytest

from tests.acceptance.conftest import database_url, empty_postgres, postgres_server_url, workspace
from tests.acceptance.environment import sqlite
from tests.acceptance.processes import Workspace
from tests.upgrade.releases import RELEASES, Release, unpacked

__all__ = ["database_url", "empty_postgres", "postgres_server_url", "workspace"]  # fixtures


OLDER = [pytest.param(release, marks=pytest.mark.slow) for release in RELEASES[:-1]]
"""Releases before the newest one; their tests are run with `-m slow`."""


@pytest.fixture(params=[*OLDER, RELEASES[-1]], ids=lambda release: release.id)
def release(request: pytest.FixtureRequest) -> Release:
    """Return each earlier release."""
    found: Release = request.param
    return found


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow), "postgresql"])
def shared_database_url(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    """Return an empty database of each kind for two releases; that of SQLite with `-m slow`."""
    if request.param == "sqlite":
        return sqlite(workspace)
    url: str = request.getfixturevalue("empty_postgres")
    return url


@pytest.fixture
def tree(release: Release, tmp_path: Path) -> Path:
    """Return a directory with the source tree of the release."""
    return unpacked(release, tmp_path / f"release-{release.id}")
