"""The sandbox and the service as processes, with clients for both."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx

from service.storage import migrate
from tests.acceptance.processes import HOST, TIMEOUT, Child, Json, Workspace, until, wait_for_response
from tests.support.database_copies import place_database
from tests.support.plain_http import NO_CERTIFICATES
from tests.support.ports import free_port

SECRET = "a-signing-key-for-tests-of-forty-characters"
NEXT_SECRET = "the-signing-key-that-a-rotation-puts-before-it"
ALL_SECRETS = (NEXT_SECRET, SECRET)
UPSTREAM_KEY = "upstream-key-of-the-tests"
MODEL = "viduq2_pro_reference"
SETTLED = frozenset({"completed", "failed", "canceled"})
IMAGE = "https://example.org/cat.png"
AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A running sandbox."""

    child: Child
    http: httpx.AsyncClient = field(repr=False)

    @property
    def url(self) -> str:
        """Return its address."""
        return self.child.url

    async def ledger(self) -> Json:
        """Return its bills and the counts of requests and callbacks."""
        found: Json = (await self.http.get("/sandbox/ledger")).raise_for_status().json()
        return found

    async def set_switches(self, **switches: object) -> None:
        """Change its switches."""
        (await self.http.post("/sandbox/switches", json=switches)).raise_for_status()


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service that answers HTTP: one process, or the web process of several."""

    child: Child
    http: httpx.AsyncClient = field(repr=False)

    async def submit(self, **more: Any) -> Json:
        """Submit a task and return it; `more` are keys of the request such as `params`."""
        body = {"model": MODEL, "params": {"prompt": "a cat", "images": [IMAGE]}, **more}
        answer = await self.http.post("/v1/tasks", json=body)
        assert answer.status_code == 202, answer.text
        found: Json = answer.json()
        return found

    async def task(self, task_id: str) -> Json:
        """Return a task."""
        found: Json = (await self.http.get(f"/v1/tasks/{task_id}")).raise_for_status().json()
        return found

    async def history(self, task_id: str) -> list[Json]:
        """Return the history of a task."""
        found: list[Json] = (await self.http.get(f"/v1/tasks/{task_id}/events")).raise_for_status().json()["data"]
        return found

    async def wait_until_settled(self, task_id: str, *, seconds: float = TIMEOUT) -> Json:
        """Wait until a task is settled and return it."""
        with anyio.fail_after(seconds):
            while (task := await self._waited(task_id))["status"] not in SETTLED:
                pass
        return task

    async def _waited(self, task_id: str) -> Json:
        found: Json = (await self.http.get(f"/v1/tasks/{task_id}", params={"wait": 10})).raise_for_status().json()
        return found

    async def tasks(self, **wanted: str) -> list[Json]:
        """Read all pages and return all tasks."""
        found: list[Json] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await self.http.get("/v1/tasks", params={"limit": "200", **wanted, **cursor})).raise_for_status()
            found += page.json()["data"]
            if not page.json()["next_cursor"]:
                return found
            cursor = {"cursor": page.json()["next_cursor"]}

    async def metrics(self) -> dict[str, float]:
        """Return every metric by its name and labels."""
        text = (await self.http.get("/metrics")).raise_for_status().text
        lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    async def wait_until_idle(self, *, seconds: float = TIMEOUT) -> None:
        """Wait until every task is settled and no delivery is pending."""

        async def quiet() -> bool:
            now = await self.metrics()
            open_tasks = sum(count for name, count in now.items() if _is_open(name))
            return not open_tasks and not now.get('boomerang_deliveries{status="pending"}', 0.0)

        await until(quiet, what="the end of all work", seconds=seconds, pause=0.25)


def _is_open(metric: str) -> bool:
    status = metric.removeprefix('boomerang_tasks{status="').removesuffix('"}')
    return metric.startswith("boomerang_tasks{") and status not in SETTLED


@asynccontextmanager
async def client(url: str, *, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client with a long timeout."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=AT_ONCE * 2)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False, verify=NO_CERTIFICATES, limits=limits
    ) as http:
        yield http


@asynccontextmanager
async def upstream(workspace: Workspace, *switches: str) -> AsyncIterator[Upstream]:
    """Start the sandbox with these switches, and wait until it responds."""
    port = free_port()
    child = workspace.start("sandbox", "sandbox", "--port", str(port), *switches, url=f"http://{HOST}:{port}")
    await wait_for_response(child, "/sandbox/ledger")
    async with client(child.url) as http:
        yield Upstream(child=child, http=http)


def settings(upstream_url: str, public_url: str | None, database_url: str, **more: str) -> dict[str, str]:
    """Return an environment with short intervals; names in `more` have no prefix, empty values are removed."""
    values = {
        "UPSTREAM_URL": upstream_url,
        "UPSTREAM_KEY": UPSTREAM_KEY,
        "PUBLIC_URL": public_url or "",
        "DATABASE_URL": database_url,
        "SECRET_KEYS": SECRET,
        "EGRESS_ALLOW": "127.0.0.0/8",
        "NOTIFY_ALLOW": "127.0.0.0/8",
        "UPSTREAM_RATE": "500/s",
        "UPSTREAM_CONCURRENCY": "16",
        "POLL_FIRST": "1s",
        "POLL_MAX": "2s",
        "LEASE": "5s",
        "RETRY_SCHEDULE": "0s,1s,2s,3s,5s,5s,5s",
        **more,
    }
    return {f"BOOMERANG_{name}": value for name, value in values.items() if value}


def sqlite(workspace: Workspace) -> str:
    """Return the address of the SQLite database in the workspace."""
    return f"sqlite:///{workspace.home / 'boomerang.db'}"


async def prepare(database_url: str) -> None:
    """Migrate an empty PostgreSQL database in this process; one of its own takes twice as long.

    `serve` places a migrated one of SQLite.
    """
    if database_url.startswith("postgresql"):
        await migrate(database_url)


async def serve(
    workspace: Workspace, env: Mapping[str, str], *, port: int | None = None, role: str = "all", name: str = "serve"
) -> Child:
    """Start `boomerang serve` and wait until it is ready; the default port is that of PUBLIC_URL.

    A new SQLite database in the workspace is migrated already: to do that takes as long as the rest of a start.
    """
    file = workspace.home / "boomerang.db"
    if env["BOOMERANG_DATABASE_URL"] == sqlite(workspace) and not file.exists():
        await place_database(file)
    at = port or httpx.URL(env["BOOMERANG_PUBLIC_URL"]).port
    arguments = ("serve", "--port", str(at), "--role", role)
    child = workspace.start(name, *arguments, env=env, url=f"http://{HOST}:{at}")
    await wait_for_response(child)
    return child


async def worker(workspace: Workspace, env: Mapping[str, str], *, name: str = "worker") -> Child:
    """Start `boomerang worker` with health checks on a free port, and wait until it is ready."""
    port = free_port()
    child = workspace.start(name, "worker", "--port", str(port), env=env, url=f"http://{HOST}:{port}")
    await wait_for_response(child)
    return child


@asynccontextmanager
async def service(child: Child, *, key: str | None = None) -> AsyncIterator[Service]:
    """Yield a client of a running service."""
    async with client(child.url, key=key) as http:
        yield Service(child=child, http=http)


async def submit_many(at: Service, count: int, **more: Any) -> list[Json]:
    """Submit `count` tasks, AT_ONCE of them concurrently, and return them."""
    found: list[Json] = []
    slots = anyio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with slots:
            found.append(await at.submit(metadata={"number": number}, **more))

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)
    return found


async def histories(at: Service, task_ids: Iterable[str]) -> dict[str, list[Json]]:
    """Return the history of each task."""
    found: dict[str, list[Json]] = {}
    slots = anyio.Semaphore(AT_ONCE)

    async def one(task_id: str) -> None:
        async with slots:
            found[task_id] = await at.history(task_id)

    async with anyio.create_task_group() as group:
        for task_id in task_ids:
            group.start_soon(one, task_id)
    return found
