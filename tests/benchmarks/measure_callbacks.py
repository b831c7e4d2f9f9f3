"""Acknowledged callbacks: verified, recorded and on disk, beside a baseline endpoint that reads the body."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.benchmarks.environment import BenchmarkEnvironment, callbacks, fill, make_task, stopping
from tests.benchmarks.table import Pairs, Row, milliseconds, rate
from tests.support.postgres import create_database, postgres_server

ACKNOWLEDGED = "204"


async def on_sqlite(environment: BenchmarkEnvironment) -> list[Row]:
    """Return callbacks per second on SQLite, the same with one commit per callback, and the p99 at half that load."""
    pairs, half = await _pairs(environment, environment.sqlite("callbacks"), "sqlite")
    single = await _single_commit_rate(environment)
    gain = pairs.figure / single
    return [
        _row("callbacks acknowledged, SQLite", pairs, 0.40),
        Row(
            measure="the same, against one commit a callback",
            figure=rate(pairs.figure),
            floor=rate(single),
            ratio=f"{gain:.2f}",
            target="3.00",
            reached=gain >= 3,
        ),
        half,
    ]


async def on_postgres(environment: BenchmarkEnvironment) -> list[Row]:
    """Return callbacks per second on a local PostgreSQL with fsync, and the p99 at half that load."""
    with postgres_server(durable=True) as server:
        pairs, half = await _pairs(environment, create_database(server.url), "postgres")
    return [_row("callbacks acknowledged, PostgreSQL", pairs, 0.30), half]


def _row(measure: str, pairs: Pairs, target: float) -> Row:
    return Row(
        measure=measure,
        figure=rate(pairs.figure),
        floor=rate(pairs.floor),
        ratio=pairs.spread,
        target=f"{target:.2f}",
        reached=pairs.ratio >= target,
    )


async def _pairs(environment: BenchmarkEnvironment, database: str, name: str) -> tuple[Pairs, Row]:
    count, figures, floors = environment.sizes.callbacks, [], []
    parts = _split_numbers(count, environment.sizes.pairs + 2)
    await fill(database, make_task(), range(1, parts[-1].stop))
    files = [environment.requests(f"{name}-{part.start}", callbacks(part)) for part in parts]
    async with (
        stopping(await environment.baseline()) as baseline,
        stopping(await environment.service(database)) as service,
    ):
        (await environment.load(service, files[0])).rate(ACKNOWLEDGED)  # to warm up
        for file in files[1:-1]:
            floors.append((await environment.load(baseline, file)).rate(ACKNOWLEDGED))
            figures.append((await environment.load(service, file)).rate(ACKNOWLEDGED))
        pairs = Pairs(figures=figures, floors=floors)
        half = await environment.load(service, files[-1], rate=pairs.figure / 2)
    half.rate(ACKNOWLEDGED)
    return pairs, Row(
        measure="acknowledgement p99 at half that load",
        figure=milliseconds(half.p99),
        floor=f"median {milliseconds(half.median)}",
        target="10 ms",
        reached=half.p99 < 0.010,
    )


async def _single_commit_rate(environment: BenchmarkEnvironment) -> float:
    """Return the rate with one commit per callback."""
    database, numbers = environment.sqlite("single"), range(1, environment.sizes.callbacks // 4 + 1)
    await fill(database, make_task(), numbers)
    unprofiled = replace(environment, profile=None)  # the profile covers only the normal service
    async with stopping(await unprofiled.service(database, batch=1)) as service:
        return (await environment.load(service, environment.requests("single", callbacks(numbers)))).rate(ACKNOWLEDGED)


def _split_numbers(count: int, number: int) -> Sequence[range]:
    def parts() -> Iterator[range]:
        for index in range(number):
            yield range(index * count + 1, (index + 1) * count + 1)

    return list(parts())
