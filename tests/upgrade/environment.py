"""Everything around the two releases: the upstream, a receiver that can be ill, the balancer, and who is asked what."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.bookkeeping import read_records
from tests.acceptance.environment import SECRET, Service, Upstream, service, settings, upstream
from tests.acceptance.environment import serve as serve_today
from tests.acceptance.processes import HOST, Child, Json, Workspace, command, free_port, until
from tests.acceptance.receiver import Receiver
from tests.upgrade.balancer import Balancer, balancing
from tests.upgrade.releases import Runner

HANDLERS: dict[str, frozenset[str] | None] = {
    "log": None,
    "webhook": None,
    "archive": frozenset({"task.completed"}),
}
LONG = "20s"
"""How long tasks run that are under way while the new release starts."""
GIVEN_UP_AFTER = "30s"
"""How long a lost callback is waited for, and once more after a restart, before `idle` loses its patience."""


@dataclass(kw_only=True)
class Moody(Receiver):
    """A receiver that refuses: `ill` maps the type of an event, or `*`, to the status that it is answered with."""

    ill: dict[str, int] = field(default_factory=dict)

    async def take(self, request: Request) -> Response:
        """Take one webhook when it is well."""
        kind = (await request.json())["type"]
        if status := self.ill.get(kind) or self.ill.get("*"):
            return Response(status_code=status)
        return await super().take(request)


@dataclass(kw_only=True)
class Stage:
    """One upgrade: `env` is what both releases are started with."""

    workspace: Workspace
    before: Runner
    sandbox: Upstream
    receiver: Moody
    balancer: Balancer
    env: dict[str, str]
    stack: AsyncExitStack
    submitted: int = 0
    seen: set[str] = field(default_factory=set)
    canceled: str = ""
    replayed: int = 0

    async def old(self, **more: str) -> Service:
        """Start the release before, as one process that does all; `more` are settings of its own."""
        env = self.env | {f"BOOMERANG_{name}": value for name, value in more.items()}
        assert await self.before.run("old-migrate", "migrate", env=env) == 0
        child = await self.before.serve("old", env, free_port())
        return await self._taken_in(child)

    async def new(self) -> Service:
        """Start today's release: it migrates first, as a platform's release step does."""
        await self.migrate()
        return await self._taken_in(await serve_today(self.workspace, self.env, port=free_port(), name="new"))

    async def migrate(self) -> None:
        """Bring the database to today's schema."""
        code, _, err = await command(self.workspace, "migrate", env=self.env)
        assert code == 0, err

    async def _taken_in(self, child: Child) -> Service:
        self.balancer.targets.append(child.url)
        return await self.stack.enter_async_context(service(child))

    async def stop(self, at: Service) -> None:
        """Take a process out of the rotation and stop it in order."""
        self.balancer.targets.remove(at.child.url)
        at.child.terminate()
        assert await at.child.ended() == 0

    async def submit(self, at: Service, status: str | None = None) -> Json:
        """Submit a task, and wait until it has this status."""
        self.submitted += 1
        task = await at.submit(metadata={"number": self.submitted})
        return await self.reached(at, task["id"], status) if status else task

    async def reached(self, at: Service, task_id: str, status: str) -> Json:
        """Return the task once it has this status."""
        seen: list[Json] = []

        async def has() -> bool:
            seen[:] = [await at.task(task_id)]
            return bool(seen[0]["status"] == status)

        await until(has, what=f"{status} of a task")
        self.seen.add(status)
        return seen[0]

    async def cancel(self, at: Service, task_id: str) -> None:
        """Cancel a task that waits; while it is just being tried, the answer is no."""

        async def canceled() -> bool:
            return (await at.http.post(f"/v1/tasks/{task_id}/cancel")).is_success

        await until(canceled, what="the end of a try")
        self.canceled = (await self.reached(at, task_id, "canceled"))["id"]

    async def replay_the_dead(self, at: Service) -> int:
        """Replay every dead letter, and return how many there were."""
        found = (await at.http.get("/v1/deliveries", params={"status": "dead"})).raise_for_status().json()["data"]
        self.replayed = len(found)
        for row in found:
            (await at.http.post(f"/v1/deliveries/{row['id']}/replay")).raise_for_status()
        return len(found)

    async def faults(self, at: Service) -> list[str]:
        """Return what does not hold once all is quiet.

        Two things are as they should be: what was canceled before it was sent has no bill, and dead letters that were
        replayed came under another id than their first attempt had.
        """
        await at.wait_until_idle()
        records = await read_records(at, self.sandbox, self.receiver, HANDLERS)
        told = (
            f"tasks without a bill that are not failed: ['{self.canceled}']",
            f"webhooks that never came: {self.replayed}",
        )
        return [fault for fault in records.faults(count=self.submitted) if fault not in told]


@asynccontextmanager
async def staged(workspace: Workspace, tree: Path, database_url: str) -> AsyncIterator[Stage]:
    """Set the stage inside the block."""
    async with AsyncExitStack() as stack:
        switches = ("--tiny-videos", "--run-time", "200ms", "--final-callbacks-only")
        sandbox = await stack.enter_async_context(upstream(workspace, *switches))
        receiver = Moody(url="", secret=derive_webhook_secret(SECRET))
        app = Starlette(routes=[Route("/hooks", receiver.take, methods=["POST"])])
        receiver.url = f"{await stack.enter_async_context(serving(app, listen(HOST, 0), grace=1))}/hooks"
        balancer = await stack.enter_async_context(balancing())
        more = {
            "WEBHOOK_URL": receiver.url,
            "ARCHIVE_URL": (workspace.home / "films").as_uri(),
            "IN_DOUBT_FOR": GIVEN_UP_AFTER,
            "RETRY_SCHEDULE": ",".join(["0s", "1s", "2s", *["4s"] * 60]),
        }
        yield Stage(
            workspace=workspace,
            before=Runner(workspace=workspace, tree=tree),
            sandbox=sandbox,
            receiver=receiver,
            balancer=balancer,
            env=settings(sandbox.url, balancer.url, database_url, **more),
            stack=stack,
        )
