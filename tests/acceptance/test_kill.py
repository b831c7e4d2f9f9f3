"""Processes are killed half-way: nothing that was acknowledged is lost, and nothing is done twice."""

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
    serve,
    service,
    settings,
    sqlite,
    submit_many,
    upstream,
    worker,
)
from tests.acceptance.processes import HOST, Child, Json, Workspace, command, free_port, until
from tests.acceptance.receiver import Receiver, receiving

COUNT = 40
HANDLERS: dict[str, frozenset[str] | None] = {"log": None, "webhook": None}


@dataclass(kw_only=True)
class Environment:
    """A sandbox, a receiver, and what the service is started with."""

    workspace: Workspace
    sandbox: Upstream
    receiver: Receiver
    env: Mapping[str, str]

    async def half_settled(self, at: Service) -> None:
        """Wait until the upstream has ended some tasks, and others are still under way."""

        async def some() -> bool:
            tasks: Json = (await self.sandbox.ledger())["tasks"]
            return int(tasks.get("success", 0)) >= COUNT // 4

        await until(some, what="the end of some tasks")
        assert at.child.alive

    async def check(self, at: Service) -> RunRecords:
        """Wait for quiet, and return the books, which must agree."""
        await at.wait_until_idle()
        records = await read_records(at, self.sandbox, self.receiver, HANDLERS)
        assert records.faults(count=COUNT) == []
        assert self.receiver.refused == []
        await self.check_inbox(records)
        return records

    async def check_inbox(self, records: RunRecords) -> None:
        """See that every callback which was answered with 204 is in the inbox: each body once, repeats apart."""
        told = records.ledger["callbacks"]
        kept = sum(row["verdict"] == "accepted" for row in records.rows("callback"))
        assert kept >= told["delivered"] - told["repeated"]


async def start_environment(stack: AsyncExitStack, workspace: Workspace, database_url: str, **more: str) -> Environment:
    """Start the sandbox and the receiver; a task runs for a second or two."""
    switches = ("--tiny-videos", "--run-time", "500ms..4s", "--vtrix-concurrency", "8")
    sandbox = await stack.enter_async_context(upstream(workspace, *switches))
    receiver = await stack.enter_async_context(receiving(derive_webhook_secret(SECRET)))
    given = {"WEBHOOK_URL": receiver.url, "LEASE": "2s", "IN_DOUBT_FOR": "15s", **more}
    env = settings(sandbox.url, f"http://{HOST}:{free_port()}", database_url, **given)
    return Environment(workspace=workspace, sandbox=sandbox, receiver=receiver, env=env)


async def start_over_postgres(
    stack: AsyncExitStack, workspace: Workspace, url: str
) -> tuple[Environment, Service, list[Child]]:
    """Start one web process and two workers."""
    environment = await start_environment(stack, workspace, url)
    code, _, err = await command(workspace, "migrate", env=environment.env)
    assert code == 0, err
    workers = [await worker(workspace, environment.env, name=f"worker-{number}") for number in (1, 2)]
    at = await stack.enter_async_context(service(await serve(workspace, environment.env, role="web", name="web")))
    return environment, at, workers


async def test_a_killed_worker_leaves_nothing_behind(workspace: Workspace, empty_postgres: str) -> None:
    """The other worker takes over what the dead one had in hand."""
    async with AsyncExitStack() as stack:
        environment, at, workers = await start_over_postgres(stack, workspace, empty_postgres)
        await submit_many(at, COUNT)
        await environment.half_settled(at)
        workers[0].crash()
        await environment.check(at)


async def test_a_killed_web_process_loses_no_callback(workspace: Workspace, empty_postgres: str) -> None:
    """What the web process acknowledged is kept; what comes while it is gone is found by polls or repeats."""
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
async def test_a_killed_sqlite_process_goes_on_where_it_was(workspace: Workspace, slow: str) -> None:
    """One process that does all is killed and started again; submissions in hand at that moment are in doubt first."""
    async with AsyncExitStack() as stack:
        environment = await start_environment(stack, workspace, sqlite(workspace))
        await environment.sandbox.set_switches(slow_create=float(slow), create_delay=2.0)
        at = await stack.enter_async_context(service(await serve(workspace, environment.env)))
        await submit_many(at, COUNT)
        await environment.half_settled(at)
        at.child.crash()
        again = await stack.enter_async_context(service(await serve(workspace, environment.env, name="serve-again")))
        await environment.check(again)


async def test_a_process_that_is_killed_while_it_takes_tasks_keeps_each_that_it_confirmed(workspace: Workspace) -> None:
    """A task whose 202 arrived is there after the crash, whatever was under way."""
    async with AsyncExitStack() as stack:
        environment = await start_environment(stack, workspace, sqlite(workspace), MAX_IN_FLIGHT="2")
        at = await stack.enter_async_context(service(await serve(workspace, environment.env)))
        confirmed = await submit_many(at, COUNT)
        at.child.crash()
        env = {name: value for name, value in environment.env.items() if name != "BOOMERANG_MAX_IN_FLIGHT"}
        again = await stack.enter_async_context(service(await serve(workspace, env, name="serve-again")))
        kept = {task["id"] for task in await again.tasks()}
        assert kept == {task["id"] for task in confirmed}
        await environment.check(again)
