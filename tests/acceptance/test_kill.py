"""Killed processes: nothing acknowledged is lost, and nothing is done twice."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.bookkeeping import RunRecords, read_records
from tests.acceptance.environment import (
    SECRET,
    Service,
    Upstream,
    prepare,
    serve,
    service,
    settings,
    sqlite,
    submit_many,
    upstream,
    worker,
)
from tests.acceptance.processes import HOST, Child, Json, Workspace, until
from tests.acceptance.receiver import Receiver, receiving
from tests.support.ports import free_port

COUNT = 40
HANDLERS: dict[str, frozenset[str] | None] = {"log": None, "webhook": None}


@dataclass(kw_only=True)
class Environment:
    """A sandbox, a receiver and the settings of the service."""

    workspace: Workspace
    sandbox: Upstream
    receiver: Receiver
    env: Mapping[str, str]

    async def half_settled(self, at: Service) -> None:
        """Wait until the provider has completed some tasks and others are still running."""

        async def some() -> bool:
            tasks: Json = (await self.sandbox.ledger())["tasks"]
            return int(tasks.get("success", 0)) >= COUNT // 4

        await until(some, what="the end of some tasks")
        assert at.child.alive

    async def check(self, at: Service) -> RunRecords:
        """Wait until all work is done, and return the records after checking them."""
        await at.wait_until_idle()
        records = await read_records(at, self.sandbox, self.receiver, HANDLERS)
        assert records.faults(count=COUNT) == []
        assert self.receiver.refused == []
        await self.check_inbox(records)
        return records

    async def check_inbox(self, records: RunRecords) -> None:
        """Check that callbacks answered with 204 are in the inbox, without repeats and those of settled tasks.

        A task sends two callbacks; both may come after a poll has settled it.
        """
        callbacks = records.ledger["callbacks"]
        stored = sum(row["verdict"] == "accepted" for row in records.rows("callback"))
        polled = records.sources.total() - records.sources["callback"]
        assert stored >= callbacks["delivered"] - callbacks["repeated"] - 2 * polled


async def start_environment(stack: AsyncExitStack, workspace: Workspace, database_url: str, **more: str) -> Environment:
    """Start the sandbox and the receiver; a task runs for up to four seconds."""
    switches = ("--tiny-videos", "--run-time", "500ms..4s", "--vtrix-concurrency", "8")
    sandbox = await stack.enter_async_context(upstream(workspace, *switches))
    receiver = await stack.enter_async_context(receiving(derive_webhook_secret(SECRET)))
    values = {"WEBHOOK_URL": receiver.url, "LEASE": "2s", "IN_DOUBT_FOR": "15s", **more}
    env = settings(sandbox.url, f"http://{HOST}:{free_port()}", database_url, **values)
    return Environment(workspace=workspace, sandbox=sandbox, receiver=receiver, env=env)


async def start_over_postgres(
    stack: AsyncExitStack, workspace: Workspace, url: str
) -> tuple[Environment, Service, list[Child]]:
    """Start one web process and two workers."""
    environment = await start_environment(stack, workspace, url)
    await prepare(url)
    workers = [await worker(workspace, environment.env, name=f"worker-{number}") for number in (1, 2)]
    at = await stack.enter_async_context(service(await serve(workspace, environment.env, role="web", name="web")))
    return environment, at, workers


@pytest.mark.slow
async def test_killed_worker_is_replaced_by_the_other(workspace: Workspace, empty_postgres: str) -> None:
    """The other worker takes over the leases of the killed one."""
    async with AsyncExitStack() as stack:
        environment, at, workers = await start_over_postgres(stack, workspace, empty_postgres)
        await submit_many(at, COUNT)
        await environment.half_settled(at)
        workers[0].crash()
        await environment.check(at)


async def test_killed_web_process_loses_no_callback(workspace: Workspace, empty_postgres: str) -> None:
    """Acknowledged callbacks are stored; polls or repeats replace those sent while the process is down."""
    async with AsyncExitStack() as stack:
        environment, at, _ = await start_over_postgres(stack, workspace, empty_postgres)
        await submit_many(at, COUNT)
        await environment.half_settled(at)
        at.child.crash()
        again = await stack.enter_async_context(
            service(await serve(workspace, environment.env, role="web", name="web-again"))
        )
        await environment.check(again)


@pytest.mark.parametrize("slow", ["0", "0.5"])
@pytest.mark.slow
async def test_restarted_sqlite_process_completes_all_tasks(workspace: Workspace, slow: str) -> None:
    """A single process is killed and restarted; submissions in flight are in doubt at first."""
    async with AsyncExitStack() as stack:
        environment = await start_environment(stack, workspace, sqlite(workspace))
        await environment.sandbox.set_switches(slow_create=float(slow), create_delay=2.0)
        at = await stack.enter_async_context(service(await serve(workspace, environment.env)))
        await submit_many(at, COUNT)
        await environment.half_settled(at)
        at.child.crash()
        again = await stack.enter_async_context(service(await serve(workspace, environment.env, name="serve-again")))
        await environment.check(again)


async def test_killed_process_keeps_every_accepted_task(workspace: Workspace) -> None:
    """A task that was answered with 202 exists after the crash."""
    async with AsyncExitStack() as stack:
        environment = await start_environment(stack, workspace, sqlite(workspace), MAX_IN_FLIGHT="2")
        at = await stack.enter_async_context(service(await serve(workspace, environment.env)))
        confirmed = await submit_many(at, COUNT)
        at.child.crash()
        env = {name: value for name, value in environment.env.items() if name != "BOOMERANG_MAX_IN_FLIGHT"}
        again = await stack.enter_async_context(service(await serve(workspace, env, name="serve-again")))
        stored = {task["id"] for task in await again.tasks()}
        assert stored == {task["id"] for task in confirmed}
        await environment.check(again)
