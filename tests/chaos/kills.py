"""Processes that are killed at any moment, while they start and migrate too, and started again at once."""

from collections.abc import Sequence
from random import Random

import anyio

from tests.acceptance import processes
from tests.acceptance.environment import sqlite
from tests.acceptance.processes import Workspace, wait_for_response
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Stage, stage
from tests.chaos.fleet import BOOMERANG, Fleet, Place, place
from tests.support.postgres import create_database, drop_database, running_postgres

LIFE = 1.5
"""Seconds that a process lives at most, from its start or from the moment that it is ready."""

YOUNG = 0.5
"""The share of kills that are counted from the start of the process: most of them fall while it starts."""

AT_FIRST = 3
"""The first kills of a run, which fall while the database is made."""


async def kill_sqlite(workspace: Workspace, effort: Effort, command: Sequence[str] = BOOMERANG) -> Audit:
    """Kill the one process that does all, again and again, over SQLite."""
    only = place("all")
    async with stage("kill -9, SQLite, one process", workspace, sqlite(workspace), [only], command=command) as play:
        play.fleet.start(only)
        await _born_dying(play.fleet, only, effort)
        await _killed(play, [only], effort.kills - AT_FIRST, effort.dice())
        return await play.audit()


async def kill_shared_sqlite(workspace: Workspace, effort: Effort) -> Audit:
    """Kill any of three processes that share one SQLite file: two that do all, and one worker."""
    places = [place("all-1"), place("all-2"), place("worker", role="worker")]
    async with stage(
        "kill -9, SQLite shared by three processes", workspace, sqlite(workspace), places, doors=2
    ) as play:
        for one in places:
            play.fleet.start(one)
        await _killed(play, places, effort.kills, effort.dice())
        return await play.audit()


async def kill_postgres(workspace: Workspace, effort: Effort) -> Audit:
    """Kill any of two web processes and two workers over PostgreSQL."""
    places = [place("web-1", role="web"), place("web-2", role="web")]
    places += [place("worker-1", role="worker"), place("worker-2", role="worker")]
    with running_postgres() as server:
        url = create_database(server)
        try:
            async with stage("kill -9, PostgreSQL, two web and two workers", workspace, url, places, doors=2) as play:
                await migrated(play)
                await play.fleet.started()
                await _killed(play, places, effort.kills, effort.dice())
                return await play.audit()
        finally:
            workspace.end()
            drop_database(server, url)


async def migrated(play: Stage) -> None:
    """Bring the stage's database to the newest schema."""
    code, _, err = await processes.command(play.fleet.workspace, "migrate", env=play.fleet.env)
    if code:
        raise RuntimeError(f"boomerang migrate failed: {err}")


async def _born_dying(fleet: Fleet, only: Place, effort: Effort) -> None:
    for step in range(AT_FIRST):
        await anyio.sleep(0.2 + effort.dice().random() * 0.2 + step * LIFE / AT_FIRST / 2)
        fleet.kill(only)


async def _killed(play: Stage, places: Sequence[Place], kills: int, dice: Random) -> None:
    for number in range(kills):
        doomed = dice.choice(places)
        if dice.random() >= YOUNG:
            await wait_for_response(play.fleet.child(doomed))
        await anyio.sleep(dice.uniform(0, LIFE) / len(places))
        if number % 10 == 5:
            await play.flowing(1)  # a run in which nothing ever happens proves nothing
        play.fleet.kill(doomed)
