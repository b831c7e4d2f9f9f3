"""Callbacks acknowledged: verified, recorded and on the disk, beside a bare endpoint that reads the body."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.benchmarks.environment import Stage, a_task, callbacks, fill, lasting
from tests.benchmarks.table import Pairs, Row, milliseconds, rate
from tests.support.postgres import create_database, postgres_server

ACKNOWLEDGED = "204"


async def on_sqlite(stage: Stage) -> list[Row]:
    """Return callbacks a second on SQLite, the same with one commit a callback, and the p99 at half that load."""
    pairs, half = await _pairs(stage, stage.sqlite("callbacks"), "sqlite")
    single = await _single(stage)
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


async def on_postgres(stage: Stage) -> list[Row]:
    """Return callbacks a second on a PostgreSQL of this machine, fsync on, and the p99 at half that load."""
    with postgres_server(durable=True) as server:
        pairs, half = await _pairs(stage, create_database(server.url), "postgres")
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


async def _pairs(stage: Stage, database: str, name: str) -> tuple[Pairs, Row]:
    count, figures, floors = stage.sizes.callbacks, [], []
    parts = _parts(count, stage.sizes.pairs + 2)
    await fill(database, a_task(), range(1, parts[-1].stop))
    files = [stage.requests(f"{name}-{part.start}", callbacks(part)) for part in parts]
    async with lasting(await stage.bare()) as bare, lasting(await stage.service(database)) as service:
        (await stage.load(service, files[0])).rate(ACKNOWLEDGED)  # to warm up
        for file in files[1:-1]:
            floors.append((await stage.load(bare, file)).rate(ACKNOWLEDGED))
            figures.append((await stage.load(service, file)).rate(ACKNOWLEDGED))
        pairs = Pairs(figures=figures, floors=floors)
        half = await stage.load(service, files[-1], rate=pairs.figure / 2)
    half.rate(ACKNOWLEDGED)
    return pairs, Row(
        measure="acknowledgement p99 at half that load",
        figure=milliseconds(half.p99),
        floor=f"median {milliseconds(half.median)}",
        target="10 ms",
        reached=half.p99 < 0.010,
    )


async def _single(stage: Stage) -> float:
    """Return the rate with one commit a callback."""
    database, numbers = stage.sqlite("single"), range(1, stage.sizes.callbacks // 4 + 1)
    await fill(database, a_task(), numbers)
    unseen = replace(stage, profile=None)  # what is profiled is the service as it is
    async with lasting(await unseen.service(database, batch=1)) as service:
        return (await stage.load(service, stage.requests("single", callbacks(numbers)))).rate(ACKNOWLEDGED)


def _parts(count: int, number: int) -> Sequence[range]:
    def parts() -> Iterator[range]:
        for index in range(number):
            yield range(index * count + 1, (index + 1) * count + 1)

    return list(parts())
