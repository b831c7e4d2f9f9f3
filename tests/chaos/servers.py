"""A PostgreSQL that becomes unavailable: restarted, crashed, or with its connections cut."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import psycopg
from anyio.to_thread import run_sync
from sqlalchemy import make_url

from tests.acceptance.processes import Workspace
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Environment, open_environment
from tests.chaos.fleet import process_slot
from tests.chaos.kills import migrated
from tests.support.postgres import PostgresServer, create_database, postgres_server

MODES = ("immediate", "fast")
CUTS_IN_A_ROW = 10
BETWEEN_CUTS = 0.1
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


async def restart_postgres(workspace: Workspace, effort: Effort) -> Audit:
    """Restart the server every few seconds, alternating immediate and fast shutdowns."""
    with postgres_server(durable=True) as server:
        async with over_postgres(workspace, server, "PostgreSQL restarted every few seconds") as environment:
            random = effort.seeded_random()
            for number in range(effort.injections):
                await environment.wait_for_progress(2)
                await anyio.sleep(random.uniform(0, 3))
                await run_sync(server.stop, MODES[number % len(MODES)])
                await anyio.sleep(random.uniform(0, 2))
                await run_sync(server.start)
                environment.fleet.injected[f"{MODES[number % len(MODES)]} restarts"] += 1
            return await environment.audit()


async def cut_connections(workspace: Workspace, effort: Effort) -> Audit:
    """Terminate all sessions of the service at the server, ten times in a row, repeatedly."""
    with postgres_server(durable=True) as server:
        async with over_postgres(workspace, server, "PostgreSQL connections cut") as environment:
            for _ in range(effort.injections):
                await environment.wait_for_progress(2)
                for _ in range(CUTS_IN_A_ROW):
                    environment.fleet.injected["cuts"] += await run_sync(_cut, environment.database_url)
                    await anyio.sleep(BETWEEN_CUTS)
            return await environment.audit()


def _cut(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as server:
        return server.execute(CUT, [make_url(url).database]).rowcount


@asynccontextmanager
async def over_postgres(workspace: Workspace, server: PostgresServer, fault: str) -> AsyncIterator[Environment]:
    """Yield an environment over a database of `server`, with a ready web process and a ready worker."""
    url = create_database(server.url)
    slots = [process_slot("web", role="web"), process_slot("worker", role="worker")]
    try:
        async with open_environment(fault, workspace, url, slots) as environment:
            await migrated(environment)
            await environment.fleet.started()
            yield environment
    finally:
        workspace.end()
