"""A PostgreSQL that is reached through others: a standby takes its place, it vanishes, a pooler stands before it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.to_thread import run_sync

from tests.acceptance.processes import Workspace
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Environment, open_environment
from tests.chaos.fleet import process_slot
from tests.chaos.kills import migrated
from tests.chaos.requirements import Unavailable
from tests.support.pgbouncer import PROGRAM, REASON, pgbouncer
from tests.support.postgres import PostgresServer, create_database, postgres_server
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

EFFECT_TIMEOUT = 8.0
"""Seconds of a fault in which no callback needs to come: no new task can be stored meanwhile."""

ANSWERED_WITHIN = 15.0
"""Seconds within which every callback is answered, on a busy machine; without a limit it would take 95."""


async def failover(workspace: Workspace, effort: Effort) -> Audit:
    """Lead the address to a standby that only reads and back, with and without closing the connections to it."""
    with postgres_server(durable=True) as primary, postgres_server(durable=True, primary_url=primary.url) as standby:
        async with _behind_proxy(workspace, primary, "PostgreSQL fails over to a standby and back") as (
            environment,
            proxy,
        ):
            random = effort.seeded_random()
            for number in range(effort.injections):
                await environment.wait_for_progress(2)
                proxy.switch(standby.url)
                await _wait_for_effect(environment)
                await anyio.sleep(random.uniform(0, 3))
                proxy.switch(primary.url, cut=number % 2 == 1)
                environment.fleet.injected["failovers"] += 1
            return await environment.audit()


async def vanish(workspace: Workspace, effort: Effort) -> Audit:
    """Forward nothing between service and server for some seconds, and abandon every second time what was open."""
    with postgres_server(durable=True) as server:
        async with _behind_proxy(workspace, server, "PostgreSQL vanishes without a reset") as (environment, proxy):
            random = effort.seeded_random()
            for number in range(effort.injections):
                await environment.wait_for_progress(2)
                proxy.freeze()
                await _wait_for_effect(environment)
                await anyio.sleep(random.uniform(0, 3))
                if number % 2:
                    proxy.abandon()
                else:
                    proxy.thaw()
                environment.fleet.injected["disappearances"] += 1
            if environment.proxy.slowest > ANSWERED_WITHIN:
                environment.unexpected.append(f"a callback was answered after {environment.proxy.slowest:.0f} s")
            return await environment.audit()


async def _wait_for_effect(environment: Environment) -> None:
    with suppress(TimeoutError):
        await environment.wait_for_deferred(seconds=EFFECT_TIMEOUT)


async def kill_behind_pooler(workspace: Workspace, effort: Effort) -> Audit:
    """Kill a worker now and then, while all processes share the sessions of a PgBouncer in transaction mode."""
    if PROGRAM is None:
        raise Unavailable(REASON)
    slots = [process_slot("web", role="web")]
    slots += [process_slot("worker-1", role="worker"), process_slot("worker-2", role="worker")]
    with postgres_server(durable=True) as server:
        url = create_database(server.url)
        with pgbouncer(url) as pooled:
            try:
                async with open_environment(
                    "kill -9, PgBouncer in transaction mode", workspace, url, slots, DATABASE_URL=pooled
                ) as environment:
                    await migrated(environment)
                    await environment.fleet.started()
                    for number in range(effort.injections * 2):
                        await environment.wait_for_progress(2)
                        environment.fleet.kill(slots[1 + number % 2])
                    return await environment.audit()
            finally:
                workspace.end()


@asynccontextmanager
async def _behind_proxy(
    workspace: Workspace, server: PostgresServer, fault: str
) -> AsyncIterator[tuple[Environment, TcpProxy]]:
    """Yield an environment whose web process and worker reach a database of `server` through a proxy."""
    url = await run_sync(create_database, server.url)
    slots = [process_slot("web", role="web"), process_slot("worker", role="worker")]
    async with tcp_proxy(url) as proxy:
        try:
            async with open_environment(fault, workspace, url, slots, DATABASE_URL=proxy.address(url)) as environment:
                await migrated(environment)
                await environment.fleet.started()
                yield environment, proxy
        finally:
            workspace.end()
