"""A short form of `python -m tests.acceptance.lossy_provider`, which runs a thousand tasks."""

import pytest

from tests.acceptance.environment import sqlite
from tests.acceptance.lossy_provider import FAULTS, run
from tests.acceptance.processes import Workspace

COUNT, LONG_COUNT = 60, 150
FEW = FAULTS | {"lose-create-reply": "0.12"}
"""Faults for few tasks: some replies are lost all the same."""


async def test_every_task_settles_on_one_sqlite_process(workspace: Workspace) -> None:
    """Despite lost, duplicate and reordered callbacks and lost replies, all requirements are met."""
    done = await run(workspace, COUNT, database_url=sqlite(workspace), workers=0, provider="vtrix", seed=1, faults=FEW)
    assert done.faults == [], done.table()


@pytest.mark.slow
async def test_every_task_settles_with_workers_on_postgres(workspace: Workspace, empty_postgres: str) -> None:
    """The same requirements are met on PostgreSQL with a web process and three workers."""
    done = await run(workspace, LONG_COUNT, database_url=empty_postgres, workers=3, provider="vtrix", seed=2)
    assert done.faults == [], done.table()


async def test_lost_replies_are_resolved_by_the_task_list_of_vidu(workspace: Workspace, empty_postgres: str) -> None:
    """Vidu has a task list, so that every submission in doubt is resolved."""
    done = await run(workspace, COUNT, database_url=empty_postgres, workers=1, provider="vidu", seed=3, faults=FEW)
    assert done.faults == [], done.table()
    assert done.records.in_doubt
    assert not any(resolution.startswith("failed") for resolution in done.records.resolutions), done.table()
