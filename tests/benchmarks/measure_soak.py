"""A steady load for a long time: whether memory stays flat and the WAL bounded, and what a task leaves in the tables.

`python -m tests.benchmarks soak [--minutes 30] [--postgres]`. Tasks with URL inputs are submitted at a fixed rate; the
provider (the baseline server) accepts each, calls back a second later and confirms the outcome; a handler that does
nothing runs. CONFIRM has its default, `always`. Not default are UPSTREAM_RATE=10000/s, POLL_FIRST=60s, the
`concurrency` of the handler (256 instead of 16), the addresses and keys, HANDLERS, and RETRY_SCHEDULE, EGRESS_ALLOW and
NOTIFY_ALLOW as `BenchmarkEnvironment.service` sets them. POLL_MAX=5m is its default. Every sample is printed on
standard error.
"""

import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from service.storage import migrate
from tests.acceptance.processes import Child, until
from tests.benchmarks.environment import BenchmarkEnvironment, query_value, stopping
from tests.benchmarks.measure_submissions import UPSTREAM_RATE, with_urls
from tests.benchmarks.table import Row
from tests.support.postgres import create_database, postgres_server

MB = 1024 * 1024
MAX_GROWTH = 1.1
"""Ratio of the last quarter's median to that of the second quarter up to which a figure is flat."""

MAX_WAL = {True: 1024 * MB, False: 64 * MB}
"""Limit of the WAL by the databases' own settings: `max_wal_size` of PostgreSQL, `journal_size_limit` of SQLite."""

TASKS = "SELECT count(*) FROM tasks"
COMPLETED = "SELECT count(*) FROM tasks WHERE status = 'completed'"
SIZE = {
    True: "SELECT pg_database_size(current_database())",
    False: "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
}
WAL = "SELECT sum(size) FROM pg_ls_waldir()"
"""The sizes of the database and of PostgreSQL's WAL in bytes; on PostgreSQL or not."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The state at one moment: `seconds` since the start; memory, WAL and tables in bytes; tasks accepted so far."""

    seconds: float
    memory: int
    wal: int
    tables: int
    tasks: int

    def line(self) -> str:
        """Return the sample as a line of a table."""
        sizes = f"memory {self.memory / MB:.1f} MB, WAL {self.wal / MB:.1f} MB, tables {self.tables / MB:.1f} MB"
        return f"{self.seconds:6.0f} s, {self.tasks:,} tasks: {sizes}"


async def soak(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the growth of memory, WAL and tables under a steady load."""
    environment.write_handler()
    sizes = environment.sizes
    requests = [with_urls(number) for number in range(int(sizes.soak_seconds * sizes.soak_rate))]
    file, samples = environment.requests("soak", requests), list[Sample]()
    async with _database(environment) as database, stopping(await environment.baseline()) as provider:
        service = await environment.service(
            database,
            upstream=provider.url,
            role="all",
            HANDLERS="nothing",
            UPSTREAM_RATE=UPSTREAM_RATE,
            POLL_FIRST="60s",
            POLL_MAX="5m",
        )
        async with stopping(service), anyio.create_task_group() as group:
            began = time.monotonic()
            group.start_soon(_load, environment, service, file)
            while len(samples) < sizes.soak_samples:
                await anyio.sleep(sizes.soak_seconds / sizes.soak_samples)
                samples.append(await _sample(environment, database, service, time.monotonic() - began))
                sys.stderr.write(f"{samples[-1].line()}\n")

            async def all_completed() -> bool:
                return int(await query_value(database, COMPLETED)) == len(requests)

            await until(all_completed, what="the end of every task", pause=1, seconds=300)
            samples.append(await _sample(environment, database, service, time.monotonic() - began))
    return _rows(environment, samples)


async def _load(environment: BenchmarkEnvironment, service: Child, file: Path) -> None:
    (await environment.load(service, file, rate=environment.sizes.soak_rate)).rate("202")


@asynccontextmanager
async def _database(environment: BenchmarkEnvironment) -> AsyncIterator[str]:
    if not environment.postgres:
        yield environment.sqlite("soak")
        return
    with postgres_server(durable=True) as server:
        database = create_database(server.url)
        await migrate(database)
        yield database


async def _sample(environment: BenchmarkEnvironment, database: str, service: Child, seconds: float) -> Sample:
    wal = environment.workspace.home / "soak.db-wal"
    return Sample(
        seconds=seconds,
        memory=service.memory(),
        wal=int(await query_value(database, WAL)) if environment.postgres else wal.stat().st_size,
        tables=int(await query_value(database, SIZE[environment.postgres])),
        tasks=int(await query_value(database, TASKS)),
    )


def _rows(environment: BenchmarkEnvironment, samples: Sequence[Sample]) -> list[Row]:
    kind = "PostgreSQL" if environment.postgres else "SQLite"
    load = f"{environment.sizes.soak_rate:g} tasks/s for {samples[-1].seconds:.0f} s, {kind}"
    first, last = samples[0], samples[-1]
    per_task = (last.tables - first.tables) / max(1, last.tasks - first.tasks)
    highest, limit = max(each.wal for each in samples), MAX_WAL[environment.postgres]
    return [
        _memory_row(load, [each.memory for each in samples]),
        Row(
            measure=f"WAL, highest, {load}",
            figure=f"{highest / MB:.1f} MB",
            target=f"{limit // MB} MB",
            reached=highest <= limit,
        ),
        Row(measure=f"tables, for each task, {load}", figure=f"{per_task / 1024:.1f} KB (kept until RETENTION)"),
    ]


def _memory_row(load: str, values: Sequence[int]) -> Row:
    """Return whether the memory is flat: its last quarter beside the second one, after the start has ended."""
    quarter = max(1, len(values) // 4)
    before, after = statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])
    return Row(
        measure=f"memory of the service, last quarter beside the second, {load}",
        figure=f"{after / MB:.1f} MB",
        floor=f"{before / MB:.1f} MB",
        ratio=f"{after / before:.2f}",
        target=f"{MAX_GROWTH:.2f} (flat)",
        reached=after <= before * MAX_GROWTH,
    )
