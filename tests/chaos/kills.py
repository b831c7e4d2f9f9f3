"""Processes that are killed at any time, also while they start and migrate, and restarted immediately."""

from collections.abc import Sequence
from random import Random

import anyio

from tests.acceptance import processes
from tests.acceptance.environment import sqlite
from tests.acceptance.processes import Workspace, wait_for_response
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Environment, open_environment
from tests.chaos.fleet import BOOMERANG, Fleet, ProcessSlot, process_slot
from tests.support.postgres import create_database, drop_database, running_postgres

MAX_LIFETIME = 1.5
"""Maximum seconds until a kill, from the start of the process or from its readiness."""

SHARE_DURING_START = 0.5
"""The share of kills timed from the start of the process: most of them happen before it is ready."""

FIRST_KILLS = 3
"""Number of first kills of a run, while the database is created."""


async def kill_sqlite(workspace: Workspace, effort: Effort, command: Sequence[str] = BOOMERANG) -> Audit:
    """Kill a single process of role `all` repeatedly, over SQLite."""
    only = process_slot("all")
    async with open_environment(
        "kill -9, SQLite, one process", workspace, sqlite(workspace), [only], command=command
    ) as environment:
        environment.fleet.start(only)
        await _kill_while_migrating(environment.fleet, only, effort)
        await _kill_repeatedly(environment, [only], effort.kills - FIRST_KILLS, effort.seeded_random())
        return await environment.audit()


async def kill_shared_sqlite(workspace: Workspace, effort: Effort) -> Audit:
    """Kill any of three processes that share one SQLite file: two of role `all`, and one worker."""
    slots = [process_slot("all-1"), process_slot("all-2"), process_slot("worker", role="worker")]
    async with open_environment(
        "kill -9, SQLite shared by three processes", workspace, sqlite(workspace), slots, web_processes=2
    ) as environment:
        for one in slots:
            environment.fleet.start(one)
        await _kill_repeatedly(environment, slots, effort.kills, effort.seeded_random())
        return await environment.audit()


async def kill_postgres(workspace: Workspace, effort: Effort) -> Audit:
    """Kill any of two web processes and two workers over PostgreSQL."""
    slots = [process_slot("web-1", role="web"), process_slot("web-2", role="web")]
    slots += [process_slot("worker-1", role="worker"), process_slot("worker-2", role="worker")]
    with running_postgres() as server:
        url = create_database(server)
        try:
            async with open_environment(
                "kill -9, PostgreSQL, two web and two workers", workspace, url, slots, web_processes=2
            ) as environment:
                await migrated(environment)
                await environment.fleet.started()
                await _kill_repeatedly(environment, slots, effort.kills, effort.seeded_random())
                return await environment.audit()
        finally:
            workspace.end()
            drop_database(server, url)


async def migrated(environment: Environment) -> None:
    """Migrate the database to the newest schema."""
    code, _, err = await processes.command(environment.fleet.workspace, "migrate", env=environment.fleet.env)
    if code:
        raise RuntimeError(f"boomerang migrate failed: {err}")


async def _kill_while_migrating(fleet: Fleet, only: ProcessSlot, effort: Effort) -> None:
    for step in range(FIRST_KILLS):
        await anyio.sleep(0.2 + effort.seeded_random().random() * 0.2 + step * MAX_LIFETIME / FIRST_KILLS / 2)
        fleet.kill(only)


async def _kill_repeatedly(environment: Environment, slots: Sequence[ProcessSlot], kills: int, random: Random) -> None:
    for number in range(kills):
        target = random.choice(slots)
        if random.random() >= SHARE_DURING_START:
            await wait_for_response(environment.fleet.child(target))
        await anyio.sleep(random.uniform(0, MAX_LIFETIME) / len(slots))
        if number % 10 == 5:
            await environment.wait_for_progress(1)  # a run without progress proves nothing
        environment.fleet.kill(target)
