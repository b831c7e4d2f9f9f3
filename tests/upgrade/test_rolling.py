"""A rolling upgrade of a whole fleet under load; `python -m tests.upgrade.rolling` prints its figures."""

import pytest

from tests.acceptance.processes import Workspace
from tests.upgrade.releases import RELEASES, unpacked
from tests.upgrade.rolling import upgrade_under_load


@pytest.mark.slow
async def test_upgrade_with_a_key_rotation_refuses_and_loses_nothing(workspace: Workspace, empty_postgres: str) -> None:
    """No callback is refused, no task lost, and each task has one bill, while every process and key is replaced."""
    release = RELEASES[-1]
    tree = unpacked(release, workspace.home / "release")
    result = await upgrade_under_load(workspace, release, tree, empty_postgres)
    assert result.faults == [], result.table()
