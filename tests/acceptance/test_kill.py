"""Processes are killed half-way: nothing that was acknowledged is lost, and nothing is done twice."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.bookkeeping import Books, closed
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
from tests.acceptance.processes import HOST, Child, Json, Town, command, free_port, until
from tests.acceptance.receiver import Receiver, receiving

COUNT = 40
HANDLERS: dict[str, frozenset[str] | None] = {"log": None, "webhook": None}


@dataclass(kw_only=True)
class Scene:
    """A sandbox, a receiver, and what the service is started with."""

    town: Town
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

    async def check(self, at: Service) -> Books:
        """Wait for quiet, and return the books, which must agree."""
        await at.idle()
        books = await closed(at, self.sandbox, self.receiver, HANDLERS)
        assert books.faults(count=COUNT) == []
        assert self.receiver.refused == []
        await self.check_inbox(books)
        return books

    async def check_inbox(self, books: Books) -> None:
        """See that every callback which was answered with 204 is in the inbox: each body once, repeats apart."""
        told = books.ledger["callbacks"]
        kept = sum(row["verdict"] == "accepted" for row in books.rows("callback"))
        assert kept >= told["delivered"] - told["repeated"]


async def scene(stack: AsyncExitStack, town: Town, database_url: str, **more: str) -> Scene:
    """Start the sandbox and the receiver; a task runs for a second or two."""
    switches = ("--tiny-videos", "--run-time", "500ms..4s", "--vtrix-concurrency", "8")
    sandbox = await stack.enter_async_context(upstream(town, *switches))
    receiver = await stack.enter_async_context(receiving(derive_webhook_secret(SECRET)))
    given = {"WEBHOOK_URL": receiver.url, "LEASE": "2s", "IN_DOUBT_FOR": "15s", **more}
    env = settings(sandbox.url, f"http://{HOST}:{free_port()}", database_url, **given)
    return Scene(town=town, sandbox=sandbox, receiver=receiver, env=env)


async def over_postgres(stack: AsyncExitStack, town: Town, url: str) -> tuple[Scene, Service, list[Child]]:
    """Start one web process and two workers."""
    play = await scene(stack, town, url)
    code, _, err = await command(town, "migrate", env=play.env)
    assert code == 0, err
    workers = [await worker(town, play.env, name=f"worker-{number}") for number in (1, 2)]
    at = await stack.enter_async_context(service(await serve(town, play.env, role="web", name="web")))
    return play, at, workers


async def test_a_killed_worker_leaves_nothing_behind(town: Town, empty_postgres: str) -> None:
    """The other worker takes over what the dead one had in hand."""
    async with AsyncExitStack() as stack:
        play, at, workers = await over_postgres(stack, town, empty_postgres)
        await submit_many(at, COUNT)
        await play.half_settled(at)
        workers[0].crash()
        await play.check(at)


async def test_a_killed_web_process_loses_no_callback(town: Town, empty_postgres: str) -> None:
    """What the web process acknowledged is kept; what comes while it is gone is found by polls or repeats."""
    async with AsyncExitStack() as stack:
        play, at, _ = await over_postgres(stack, town, empty_postgres)
        await submit_many(at, COUNT)
        await play.half_settled(at)
        at.child.crash()
        again = await stack.enter_async_context(service(await serve(town, play.env, role="web", name="web-again")))
        await play.check(again)


@pytest.mark.parametrize("slow", ["0", "0.5"])
async def test_a_killed_sqlite_process_goes_on_where_it_was(town: Town, slow: str) -> None:
    """One process that does all is killed and started again; submissions in hand at that moment are in doubt first."""
    async with AsyncExitStack() as stack:
        play = await scene(stack, town, sqlite(town))
        await play.sandbox.turn(slow_create=float(slow), create_delay=2.0)
        at = await stack.enter_async_context(service(await serve(town, play.env)))
        await submit_many(at, COUNT)
        await play.half_settled(at)
        at.child.crash()
        again = await stack.enter_async_context(service(await serve(town, play.env, name="serve-again")))
        await play.check(again)


async def test_a_process_that_is_killed_while_it_takes_tasks_keeps_each_that_it_confirmed(town: Town) -> None:
    """A task whose 202 arrived is there after the crash, whatever was under way."""
    async with AsyncExitStack() as stack:
        play = await scene(stack, town, sqlite(town), MAX_IN_FLIGHT="2")
        at = await stack.enter_async_context(service(await serve(town, play.env)))
        confirmed = await submit_many(at, COUNT)
        at.child.crash()
        env = {name: value for name, value in play.env.items() if name != "BOOMERANG_MAX_IN_FLIGHT"}
        again = await stack.enter_async_context(service(await serve(town, env, name="serve-again")))
        kept = {task["id"] for task in await again.tasks()}
        assert kept == {task["id"] for task in confirmed}
        await play.check(again)
