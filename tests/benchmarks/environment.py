"""Environment of a measure: processes on loopback, a database full of tasks, and valid callbacks for them."""

import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from sqlalchemy import text

from service.domain.task import Status, Task, TaskId, UpstreamId
from service.domain.tokens import Tokens
from service.storage import migrate, open_store
from service.storage.database import Database
from service.storage.local_signals import LocalSignals
from service.storage.tables import tasks
from tests.acceptance.environment import SECRET, settings
from tests.acceptance.processes import HOST, Child, Workspace, wait_for_response
from tests.benchmarks.baseline_server import completed
from tests.benchmarks.load import request, write_requests
from tests.support.ports import free_port

FIRST_ID = 100_000_000_000
HOUR = timedelta(hours=1)
HANDLER_SOURCE = '''"""Does nothing."""

from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on("task.completed", name="nothing", concurrency=256)
async def nothing(event: Event, tools: Tools) -> None:
    """Do nothing."""
'''


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a run: the number of pairs, and the amount of work in each."""

    pairs: int = 3
    callbacks: int = 8_000
    defaults: int = 10_000
    settling: float = 4.0
    singles: int = 200
    deliveries: int = 20_000
    fleet: int = 24_000
    sequential: int = 60
    polls: int = 100_000
    poll_seconds: float = 5.0
    submits: int = 600
    submissions: int = 1_000
    soak_seconds: float = 1_800.0
    soak_rate: float = 10.0
    soak_samples: int = 30
    pending: int = 1_000_000
    few_pending: int = 10_000
    claims: int = 40
    growth: int = 4_000
    few_settled: int = 10_000
    many_settled: int = 1_000_000
    starts: int = 3
    histories: int = 2_000
    connections: int = 64
    waits: int = 400
    wait_seconds: float = 15.0
    few_pages: int = 1_000
    many_pages: int = 1_000_000
    page_requests: int = 15
    streams: int = 50


SHORT = Sizes(
    pairs=1,
    callbacks=128,
    defaults=64,
    settling=0.0,
    singles=3,
    deliveries=64,
    fleet=64,
    sequential=3,
    polls=64,
    poll_seconds=0.5,
    submits=8,
    submissions=15,
    soak_seconds=2.0,
    soak_samples=4,
    pending=2_000,
    few_pending=1_000,
    claims=3,
    growth=32,
    few_settled=10,
    many_settled=100,
    starts=1,
    histories=40,
    waits=8,
    wait_seconds=0.2,
    few_pages=10,
    many_pages=100,
    page_requests=2,
    streams=3,
)


@dataclass(frozen=True, kw_only=True)
class BenchmarkEnvironment:
    """Processes, and the sizes of this run."""

    workspace: Workspace
    sizes: Sizes
    profile: Path | None = None
    postgres: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    async def baseline(self) -> Child:
        """Start the baseline server, and wait until it responds."""
        port = free_port()
        command = [sys.executable, "-m", "tests.benchmarks.baseline_server", str(port)]
        child = self.workspace.run("bare", command, env=self.path(), url=f"http://{HOST}:{port}")
        await wait_for_response(child, "/healthz", status=204)
        return child

    async def service(
        self, database: str, *, upstream: str = f"http://{HOST}:9", role: str = "web", batch: int = 256, **more: str
    ) -> Child:
        """Start the service, and wait until it is ready; `more` are settings without their prefix.

        Those that are not in `more` are default, but for the addresses, the keys, and what the tests of acceptance set:
        UPSTREAM_RATE=500/s, POLL_FIRST=1s, POLL_MAX=2s, RETRY_SCHEDULE=0s,1s,2s,3s,5s,5s,5s, and EGRESS_ALLOW and
        NOTIFY_ALLOW for this machine. LEASE=60s and LOG_FORMAT=json are the defaults of a process without a terminal.
        `batch` is the maximum of updates, or of callbacks of a burst, in one commit: 256 is that of the service.
        """
        port = free_port()
        env = settings(upstream, f"http://{HOST}:{port}", database, LEASE="60s", LOG_FORMAT="json", **more)
        profile = ["--profile", str(self.profile)] if self.profile else []
        command = [sys.executable, "-m", "tests.benchmarks.child", "--batch", str(batch), *profile]
        command += ["serve", "--port", str(port), "--role", role]
        child = self.workspace.run("service", command, env={**env, **self.path()}, url=f"http://{HOST}:{port}")
        await wait_for_response(child)
        return child

    async def load(self, child: Child, requests: Path, *, rate: float = 0) -> "LoadReport":
        """Send every request in a file to `child` and return the report."""
        port = child.url.rpartition(":")[2]
        command = [sys.executable, "-m", "tests.benchmarks.load", port, str(requests)]
        done = await anyio.run_process(
            [*command, str(self.sizes.connections), str(rate)],
            env=self.workspace.environment(self.path()),
            stderr=None,
        )
        return LoadReport(**json.loads(done.stdout))

    def requests(self, name: str, requests: Iterable[bytes]) -> Path:
        """Write requests into a file."""
        file = self.workspace.home / f"{name}.requests"
        write_requests(file, requests)
        return file

    def write_handler(self) -> None:
        """Write a handler that does nothing into the directory of handlers; its concurrency of 256 is not default."""
        (self.workspace.home / "handlers").mkdir(exist_ok=True)
        (self.workspace.home / "handlers" / "nothing.py").write_text(HANDLER_SOURCE)

    def sqlite(self, name: str) -> str:
        """Return the address of an SQLite database."""
        return f"sqlite:///{self.workspace.home / name}.db"

    @staticmethod
    def path() -> dict[str, str]:
        """Return the environment with which a child process can import the tests."""
        return {"PYTHONPATH": str(Path(__file__).parents[2])}


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Report of a load run; `busy` is the client's share of a core, `began_at` is in seconds since 1970."""

    seconds: float
    began_at: float
    busy: float
    statuses: dict[str, int]
    median: float
    p99: float

    def rate(self, wanted: str) -> float:
        """Return responses per second; raises RuntimeError if any response was not `wanted`."""
        if set(self.statuses) != {wanted}:
            raise RuntimeError(f"wanted {wanted} from every request, got {self.statuses}")
        return self.statuses[wanted] / self.seconds


@contextmanager
def open_environment(sizes: Sizes, profile: Path | None = None, *, postgres: bool = False) -> Any:
    """Yield an environment in its own directory; its processes end with the block."""
    with TemporaryDirectory(prefix="boomerang-bench-") as home, Workspace(home=Path(home), quiet=True) as workspace:
        yield BenchmarkEnvironment(workspace=workspace, sizes=sizes, profile=profile, postgres=postgres)


def task_id(number: int) -> TaskId:
    """Return the id of the task `number`, from 1; it is as long as a real one."""
    return TaskId(f"01985e6a-0000-7000-8000-{FIRST_ID + number}")


def upstream_id(number: int) -> UpstreamId:
    """Return the provider's id of the task `number`."""
    return UpstreamId(f"d758n65{FIRST_ID + number}")


def make_task(**changes: Any) -> Task:
    """Return a task in progress at the provider; its next poll is due in an hour."""
    now = datetime.now(UTC)
    task = Task(
        id=task_id(0),
        client="anna",
        provider="vtrix",
        model="viduq2_pro_reference",
        bucket="viduq2_pro_reference/5",
        created_at=now,
        submitted_at=now,
        deadline_at=now + 2 * HOUR,
        due_at=now + HOUR,
        status=Status.IN_PROGRESS,
        submission=1,
        upstream_id=upstream_id(0),
        params={"prompt": "a cat that throws a boomerang, at sunset", "images": ["https://example.org/cat.png"]},
        metadata={"order": "A-1001"},
    )
    return replace(task, **changes)


async def fill(database: str, like: Task, numbers: range, *, analyze: bool = True) -> None:
    """Migrate the database, add tasks like `like`, with the ids of their numbers, and on request analyse the tables."""
    await migrate(database)
    async with open_store(database) as store:
        await store.intake.add(like, [], None)
    columns = [column.name for column in tasks.columns if column.name not in {"id", "upstream_id"}]
    await _execute(database, _copies(columns), {"like": like.id, "first": numbers.start, "last": numbers.stop - 1})
    await _execute(database, "DELETE FROM tasks WHERE id = :like", {"like": like.id})
    if analyze:
        await _execute(database, "ANALYZE", {})


def _copies(columns: list[str]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    number = f"CAST({FIRST_ID} + n AS TEXT)"
    ids = f"'{task_id(0)[:24]}' || {number}, '{upstream_id(0)[:7]}' || {number}"
    series = (
        "WITH RECURSIVE series(n) AS (SELECT CAST(:first AS BIGINT) UNION ALL SELECT n + 1 FROM series WHERE n < :last)"
    )
    chosen = f"SELECT {ids}, {names} FROM series, tasks WHERE id = :like"  # noqa: S608 - our own names
    return f"INSERT INTO tasks (id, upstream_id, {names}) {series} {chosen}"


async def _execute(database: str, statement: str, values: dict[str, object]) -> None:
    at = Database(database, LocalSignals())
    try:
        async with at.writing() as write:
            await write.connection.execute(
                text("SET LOCAL statement_timeout = 0") if at.address.postgres else text("SELECT 1")
            )
            await write.connection.execute(text(statement), values)
    finally:
        await at.close()


async def query_value(database: str, query: str) -> Any:
    """Return the first value of a query."""
    at = Database(database, LocalSignals())
    try:
        async with at.reading() as connection:
            return (await connection.execute(text(query))).scalar()
    finally:
        await at.close()


def callbacks(numbers: Iterable[int]) -> Iterable[bytes]:
    """Yield a valid callback about the completion of each task."""
    tokens = Tokens([SECRET])
    until = datetime.now(UTC) + 3 * HOUR
    for number in numbers:
        body = completed(upstream_id(number)) | {"payload": tokens.payload_token(task_id(number), 1)}
        path = f"/callbacks/{tokens.callback_token(task_id(number), 1, until)}"
        yield request("POST", path, json.dumps(body).encode())


@asynccontextmanager
async def stopping(child: Child) -> AsyncIterator[Child]:
    """Shut `child` down at the end of the block."""
    try:
        yield child
    finally:
        if child.alive:
            child.terminate()
            await child.ended()
