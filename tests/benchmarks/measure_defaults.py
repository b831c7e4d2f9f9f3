"""Callbacks to handlers as a user runs them: `--role all` unless a row has other roles, a handler with default limits.

Each row names CONFIRM, whose default is `always`. CONFIRM=never is what the aims are for. Not default are also the
addresses and keys of the provider, the database and the service, HANDLERS (one handler that does nothing),
UPSTREAM_RATE=10000/s with CONFIRM=always, where the provider is asked for each task (the default of 10/s would be what
is measured), and what `BenchmarkEnvironment.service` names. A process has run for four seconds: before, it imports the
pages (`service/runtime/late_imports.py`).
"""

import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio

from tests.acceptance.processes import HOST, TICKS, Child, until
from tests.benchmarks.environment import (
    BenchmarkEnvironment,
    LoadReport,
    callbacks,
    fill,
    make_task,
    query_value,
    stopping,
)
from tests.benchmarks.load import read_requests
from tests.benchmarks.measure_deliveries import PAUSE, WARM_UP
from tests.benchmarks.table import Row, milliseconds, rate
from tests.support.postgres import PostgresServer, create_database, postgres_server

HANDLER = '''"""Does nothing."""

from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on("task.completed", name="nothing")
async def nothing(event: Event, tools: Tools) -> None:
    """Do nothing."""
'''
DELIVERED = "SELECT count(*) FROM deliveries WHERE status = 'delivered'"
LAST = {
    True: "SELECT extract(epoch FROM max(finished_at)) FROM deliveries WHERE status = 'delivered'",
    False: "SELECT max(finished_at) / 1e6 FROM deliveries WHERE status = 'delivered'",
}
"""The end of the last delivery in seconds since 1970, on PostgreSQL or not."""
ENDS = {
    True: "SELECT string_agg(extract(epoch FROM finished_at)::text, ',' ORDER BY task_id) FROM deliveries",
    False: "SELECT group_concat(at) FROM (SELECT finished_at / 1e6 AS at FROM deliveries ORDER BY task_id)",
}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What runs: the roles of the processes, the kind of database, and whether outcomes are confirmed."""

    name: str
    roles: Sequence[str] = ("all",)
    postgres: bool = False
    confirm: str = "never"
    """CONFIRM; the names of the set-ups have it, too."""

    @property
    def upstream_rate(self) -> str:
        """Return UPSTREAM_RATE: the default (10/s) where the provider is not asked."""
        return "10000/s" if self.confirm == "always" else "10/s"


SETUPS = (
    Setup(name="SQLite, CONFIRM=always", confirm="always"),
    Setup(name="SQLite, CONFIRM=never"),
    Setup(name="PostgreSQL, one process, CONFIRM=never", postgres=True),
    Setup(name="PostgreSQL, web and worker apart, CONFIRM=never", postgres=True, roles=("web", "worker")),
)
RATE_AIMS = {
    "SQLite, CONFIRM=never": (0.25, 0.10, 0.5),
    "PostgreSQL, one process, CONFIRM=never": (0.25, 0.05, 1.5),
}
"""Ratios of acknowledgements and of handlers, and milliseconds of processor time of a task."""
LATENCY_AIMS = {"SQLite, CONFIRM=never": "3 ms, 8 ms", "PostgreSQL, one process, CONFIRM=never": "4 ms, 10 ms"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Result of one run: acknowledgements and handlers a second, and processor seconds a task in all processes."""

    acknowledged: float
    handled: float
    processor: float


async def defaults(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the rates, the processor time of a task and the latency of each set-up, beside a bare endpoint."""
    (environment.workspace.home / "handlers").mkdir(exist_ok=True)
    (environment.workspace.home / "handlers" / "nothing.py").write_text(HANDLER)
    rows: list[Row] = []
    with postgres_server(durable=True) as server:
        async with stopping(await environment.baseline()) as baseline:
            for setup in SETUPS:
                bare = await _bare(environment, baseline)
                found = await _throughput(environment, setup, server, baseline)
                rows += _rate_rows(setup, found, bare)
                rows.append(await _latency(environment, setup, server, baseline))
    return rows


def _rate_rows(setup: Setup, found: Measured, bare: float) -> list[Row]:
    aims = RATE_AIMS.get(setup.name)
    acknowledged, handled, processor = aims or (0.0, 0.0, 0.0)
    return [
        _ratio_row(
            f"callbacks acknowledged while recording and delivering, {setup.name}",
            found.acknowledged,
            bare,
            acknowledged,
        ),
        _ratio_row(f"handlers run, {setup.name}", found.handled, bare, handled),
        Row(
            measure=f"processor time of a task, all processes and the database, {setup.name}",
            figure=milliseconds(found.processor),
            target=f"{processor} ms" if aims else "",
            reached=found.processor * 1000 <= processor if aims else None,
        ),
    ]


def _ratio_row(measure: str, figure: float, bare: float, aim: float) -> Row:
    return Row(
        measure=measure,
        figure=rate(figure),
        floor=rate(bare),
        ratio=f"{figure / bare:.3f}",
        target=f"{aim:.2f}" if aim else "",
        reached=figure / bare >= aim if aim else None,
    )


async def _bare(environment: BenchmarkEnvironment, baseline: Child) -> float:
    file = environment.requests("bare", callbacks(range(1, environment.sizes.callbacks + 1)))
    return (await environment.load(baseline, file)).rate("204")


async def _throughput(
    environment: BenchmarkEnvironment, setup: Setup, server: PostgresServer, baseline: Child
) -> Measured:
    """Send a callback of each waiting task as fast as they are acknowledged; return the rates and the time."""
    count = environment.sizes.defaults
    with _database(environment, setup, server) as database:
        await fill(database, make_task(), range(1, count + 1))
        file = environment.requests("defaults", callbacks(range(1, count + 1)))
        async with _running(environment, setup, database, baseline) as children:
            before = sum(map(Child.processor_seconds, children)) + _server_seconds(setup, server)
            report: LoadReport = await environment.load(children[0], file)

            async def all_delivered() -> bool:
                return int(await query_value(database, DELIVERED)) == count

            await until(all_delivered, what="every delivery", pause=0.25, seconds=300)
            used = sum(map(Child.processor_seconds, children)) + _server_seconds(setup, server) - before
            last = float(await query_value(database, LAST[setup.postgres]))
    return Measured(
        acknowledged=report.rate("204"),
        handled=count / (last - report.began_at),
        processor=max(used, 1 / TICKS) / count,
    )


async def _latency(environment: BenchmarkEnvironment, setup: Setup, server: PostgresServer, baseline: Child) -> Row:
    """Return the time from a callback to the end of its handler, one at a time."""
    count = environment.sizes.singles + WARM_UP
    with _database(environment, setup, server) as database:
        await fill(database, make_task(), range(1, count + 1))
        posts = [*read_requests(environment.requests("one", callbacks(range(1, count + 1))))]
        async with _running(environment, setup, database, baseline) as children:
            waits = sorted((await _one(children[0], setup, database, posts))[WARM_UP:])
    return Row(
        measure=f"callback → end of its handler, one at a time, {setup.name}: median, p99",
        figure=f"{milliseconds(statistics.median(waits))}, {milliseconds(waits[int(len(waits) * 0.99)])}",
        target=LATENCY_AIMS.get(setup.name, ""),
    )


async def _one(web: Child, setup: Setup, database: str, posts: Sequence[bytes]) -> list[float]:
    """Send callbacks one at a time; return the seconds from each to the end of its handler.

    The time begins when the bytes are handed to the system: a client library takes about as long as the service.
    """
    sent: list[float] = []
    async with await anyio.connect_tcp(HOST, int(web.url.rpartition(":")[2])) as connection:
        for post in posts:
            sent.append(time.time())
            await connection.send(post)
            answer = await connection.receive()
            if not answer.startswith(b"HTTP/1.1 204 "):
                raise RuntimeError(f"wanted 204, got {answer[:40]!r}")
            await anyio.sleep(PAUSE)

    async def all_delivered() -> bool:
        return int(await query_value(database, DELIVERED)) == len(posts)

    await until(all_delivered, what="every delivery")
    ended = str(await query_value(database, ENDS[setup.postgres])).split(",")
    return [float(end) - start for end, start in zip(ended, sent, strict=True)]


@contextmanager
def _database(environment: BenchmarkEnvironment, setup: Setup, server: PostgresServer) -> Iterator[str]:
    """Yield the address of an empty database; a file is deleted afterwards."""
    if setup.postgres:
        yield create_database(server.url)
        return
    name = f"defaults-{time.monotonic_ns()}"
    yield environment.sqlite(name)
    for file in environment.workspace.home.glob(f"{name}.db*"):
        file.unlink()


@asynccontextmanager
async def _running(
    environment: BenchmarkEnvironment, setup: Setup, database: str, baseline: Child
) -> AsyncIterator[list[Child]]:
    """Yield the processes of the set-up, the one that receives callbacks first; they are stopped afterwards."""

    async def start(role: str) -> Child:
        return await environment.service(
            database,
            upstream=baseline.url,
            role=role,
            HANDLERS="nothing",
            CONFIRM=setup.confirm,
            UPSTREAM_RATE=setup.upstream_rate,
        )

    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(stopping(await start(role))) for role in setup.roles]
        await anyio.sleep(environment.sizes.settling)
        yield children


def _server_seconds(setup: Setup, server: PostgresServer) -> float:
    return server.processor_seconds() if setup.postgres else 0.0
