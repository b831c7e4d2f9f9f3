"""A PostgreSQL that goes away: restarted in order or by a crash, its connections cut, its disk full."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import psycopg
from anyio.to_thread import run_sync
from sqlalchemy import make_url

from tests.acceptance.processes import Workspace
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Stage, stage
from tests.chaos.fleet import place
from tests.chaos.kills import migrated
from tests.support.postgres import PostgresServer, create_database, postgres_server

MODES = ("immediate", "fast")
CUTS_IN_A_ROW = 10
BETWEEN_CUTS = 0.1
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


async def restart_postgres(workspace: Workspace, effort: Effort) -> Audit:
    """Restart the server every few seconds, by turns as a crash does it and in order."""
    with postgres_server(durable=True) as server:
        async with over_postgres(workspace, server, "PostgreSQL restarted every few seconds") as play:
            dice = effort.dice()
            for number in range(effort.strikes):
                await play.flowing(2)
                await anyio.sleep(dice.uniform(0, 3))
                await run_sync(server.stop, MODES[number % len(MODES)])
                await anyio.sleep(dice.uniform(0, 2))
                await run_sync(server.start)
                play.fleet.struck[f"{MODES[number % len(MODES)]} restarts"] += 1
            return await play.audit()


async def cut_connections(workspace: Workspace, effort: Effort) -> Audit:
    """End all sessions of the service at the server, some times in a row, again and again."""
    with postgres_server(durable=True) as server:
        async with over_postgres(workspace, server, "PostgreSQL connections cut") as play:
            for _ in range(effort.strikes):
                await play.flowing(2)
                for _ in range(CUTS_IN_A_ROW):
                    play.fleet.struck["cuts"] += await run_sync(_cut, play.database_url)
                    await anyio.sleep(BETWEEN_CUTS)
            return await play.audit()


def _cut(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as server:
        return server.execute(CUT, [make_url(url).database]).rowcount


@asynccontextmanager
async def over_postgres(workspace: Workspace, server: PostgresServer, fault: str) -> AsyncIterator[Stage]:
    """Set the stage over a database of `server`, with a web process and a worker that are ready."""
    url = create_database(server.url)
    places = [place("web", role="web"), place("worker", role="worker")]
    try:
        async with stage(fault, workspace, url, places) as play:
            await migrated(play)
            await play.fleet.started()
            yield play
    finally:
        workspace.end()
