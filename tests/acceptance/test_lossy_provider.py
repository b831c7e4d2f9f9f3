"""The short form of the run that `python -m tests.acceptance.lossy_provider` does with a thousand tasks."""

import pytest

from tests.acceptance.environment import sqlite
from tests.acceptance.lossy_provider import run
from tests.acceptance.processes import Town

COUNT = 150


async def test_every_task_settles_on_one_sqlite_process(town: Town) -> None:
    """Lost, doubled and reordered callbacks and lost replies leave no task, bill or delivery astray."""
    done = await run(town, COUNT, database_url=sqlite(town), workers=0, provider="vtrix", seed=1)
    assert done.faults == [], done.table()


@pytest.mark.slow
async def test_every_task_settles_with_workers_on_postgres(town: Town, empty_postgres: str) -> None:
    """The same over PostgreSQL with a web process and three workers."""
    done = await run(town, COUNT, database_url=empty_postgres, workers=3, provider="vtrix", seed=2)
    assert done.faults == [], done.table()


async def test_lost_replies_are_found_in_the_list_of_vidu(town: Town, empty_postgres: str) -> None:
    """With Vidu's list to look into, no submission stays unknown."""
    done = await run(town, COUNT, database_url=empty_postgres, workers=2, provider="vidu", seed=3)
    assert done.faults == [], done.table()
    assert done.books.doubted
    assert not any(resolution.startswith("failed") for resolution in done.books.resolutions), done.table()
