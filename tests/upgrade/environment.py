"""The environment of two releases: provider, refusing receiver, balancer, and the two processes."""

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
from tests.acceptance.processes import HOST, Child, Json, Workspace, command, until
from tests.acceptance.receiver import Receiver
from tests.support.ports import free_port
from tests.upgrade.balancer import Balancer, balancing
from tests.upgrade.releases import Release, Runner

HANDLERS: dict[str, frozenset[str] | None] = {
    "log": None,
    "webhook": None,
    "archive": frozenset({"task.completed"}),
}
LONG_RUN_TIME = "12s"
"""Run time of tasks that are in progress while the new release starts."""
IN_DOUBT_FOR = "30s"
"""How long a submission may stay in doubt, and once more after a restart, before `idle` times out."""


@dataclass(kw_only=True)
class RefusingReceiver(Receiver):
    """A receiver that refuses: `refusals` maps an event type, or `*` for all, to the status code of the response."""

    refusals: dict[str, int] = field(default_factory=dict)

    async def take(self, request: Request) -> Response:
        """Respond to one webhook."""
        kind = (await request.json())["type"]
        if status := self.refusals.get(kind) or self.refusals.get("*"):
            return Response(status_code=status)
        return await super().take(request)


@dataclass(kw_only=True)
class UpgradeEnvironment:
    """One upgrade; both releases start with the settings `env`."""

    workspace: Workspace
    before: Runner
    sandbox: Upstream
    receiver: RefusingReceiver
    balancer: Balancer
    env: dict[str, str]
    stack: AsyncExitStack
    submitted: int = 0
    seen: set[str] = field(default_factory=set)
    canceled: str = ""
    replayed: int = 0

    async def old(self, **more: str) -> Service:
        """Start the earlier release as one process with every role; `more` are additional settings."""
        env = self.env | {f"BOOMERANG_{name}": value for name, value in more.items()}
        assert await self.before.run("old-migrate", "migrate", env=env) == 0
        child = await self.before.serve("old", env, free_port())
        return await self._register(child)

    async def new(self) -> Service:
        """Start the current release after its migration, as the release step of a platform does."""
        await self.migrate()
        return await self._register(await serve_today(self.workspace, self.env, port=free_port(), name="new"))

    async def migrate(self) -> None:
        """Migrate the database to the current schema."""
        code, _, err = await command(self.workspace, "migrate", env=self.env)
        assert code == 0, err

    async def _register(self, child: Child) -> Service:
        self.balancer.targets.append(child.url)
        return await self.stack.enter_async_context(service(child))

    async def stop(self, at: Service) -> None:
        """Remove a process from the balancer and shut it down."""
        self.balancer.targets.remove(at.child.url)
        at.child.terminate()
        assert await at.child.ended() == 0

    async def submit(self, at: Service, status: str | None = None) -> Json:
        """Submit a task, and wait until it has the status."""
        self.submitted += 1
        task = await at.submit(metadata={"number": self.submitted})
        return await self.reached(at, task["id"], status) if status else task

    async def reached(self, at: Service, task_id: str, status: str) -> Json:
        """Return the task once it has the status."""
        seen: list[Json] = []

        async def has() -> bool:
            seen[:] = [await at.task(task_id)]
            return bool(seen[0]["status"] == status)

        await until(has, what=f"{status} of a task")
        self.seen.add(status)
        return seen[0]

    async def cancel(self, at: Service, task_id: str) -> None:
        """Cancel a waiting task; during a submission attempt the service refuses, so try until it succeeds."""

        async def canceled() -> bool:
            return (await at.http.post(f"/v1/tasks/{task_id}/cancel")).is_success

        await until(canceled, what="the end of a submission attempt")
        self.canceled = (await self.reached(at, task_id, "canceled"))["id"]

    async def replay_dead_letters(self, at: Service) -> int:
        """Replay every dead letter, and return how many there were."""
        found = (await at.http.get("/v1/deliveries", params={"status": "dead"})).raise_for_status().json()["data"]
        self.replayed = len(found)
        for row in found:
            (await at.http.post(f"/v1/deliveries/{row['id']}/replay")).raise_for_status()
        return len(found)

    async def faults(self, at: Service) -> list[str]:
        """Return the violated invariants once the service is idle.

        Two reports are expected: a task that was canceled before it was sent has no bill, and a replayed dead letter
        has another message id than its first attempt.
        """
        await at.wait_until_idle()
        records = await read_records(at, self.sandbox, self.receiver, HANDLERS)
        expected = (
            f"tasks without a bill that are not failed: ['{self.canceled}']",
            f"webhooks not received: {self.replayed}",
        )
        return [fault for fault in records.faults(count=self.submitted) if fault not in expected]


@asynccontextmanager
async def upgrade_environment(
    workspace: Workspace, release: Release, tree: Path, database_url: str
) -> AsyncIterator[UpgradeEnvironment]:
    """Yield the environment; its processes run inside the block."""
    async with AsyncExitStack() as stack:
        switches = ("--tiny-videos", "--run-time", "200ms", "--final-callbacks-only")
        sandbox = await stack.enter_async_context(upstream(workspace, *switches))
        receiver = RefusingReceiver(url="", secret=derive_webhook_secret(SECRET))
        app = Starlette(routes=[Route("/hooks", receiver.take, methods=["POST"])])
        receiver.url = f"{await stack.enter_async_context(serving(app, listen(HOST, 0), grace=1))}/hooks"
        balancer = await stack.enter_async_context(balancing())
        more = {
            "WEBHOOK_URL": receiver.url,
            "ARCHIVE_URL": (workspace.home / "videos").as_uri(),
            "IN_DOUBT_FOR": IN_DOUBT_FOR,
            "RETRY_SCHEDULE": ",".join(["0s", "1s", "2s", *["4s"] * 60]),
        }
        yield UpgradeEnvironment(
            workspace=workspace,
            before=Runner(workspace=workspace, release=release, tree=tree),
            sandbox=sandbox,
            receiver=receiver,
            balancer=balancer,
            env=settings(sandbox.url, balancer.url, database_url, **more),
            stack=stack,
        )
