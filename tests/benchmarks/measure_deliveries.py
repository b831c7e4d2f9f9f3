"""How fast an outcome reaches a handler: many at once, and one at a time from the upstream's end on."""

import statistics
import time
from pathlib import Path

import anyio
import httpx

from tests.acceptance.processes import Child, until
from tests.benchmarks.environment import Stage, a_task, callbacks, fill, lasting, look
from tests.benchmarks.load import read_requests
from tests.benchmarks.table import Pairs, Row, milliseconds, rate

MEDIAN, P99 = 4.0, 0.050
WARM_UP = 3
BETWEEN = 0.05
"""Seconds between two that go one at a time: each finds the service at rest."""

DELIVERED = "SELECT count(*) FROM attempts WHERE outcome = 'delivered'"
LAST = "SELECT max(finished_at) / 1e6 FROM attempts WHERE outcome = 'delivered'"
STARTS = "SELECT group_concat(at) FROM (SELECT started_at / 1e6 AS at FROM attempts ORDER BY started_at)"


async def many(stage: Stage) -> list[Row]:
    """Return deliveries a second through a handler that does nothing, everything durable."""
    stage.write_handler()
    count, figures, floors = stage.sizes.deliveries, [], []
    async with lasting(await stage.bare()) as bare:
        for turn in range(stage.sizes.pairs):
            database = stage.sqlite(f"deliveries-{turn}")
            await fill(database, a_task(), range(1, count + 1))
            file = stage.requests(f"deliveries-{turn}", callbacks(range(1, count + 1)))
            floors.append((await stage.load(bare, file)).rate("204"))
            figures.append(await _through(stage, database, file, count))
    pairs = Pairs(figures=figures, floors=floors)
    return [
        Row(
            measure=f"deliveries, from the first of {count:,} callbacks to the last handler run",
            figure=rate(pairs.figure),
            floor=rate(pairs.floor),
            ratio=pairs.spread,
            target="0.12",
            reached=pairs.ratio >= 0.12,
        )
    ]


async def _through(stage: Stage, database: str, file: Path, count: int) -> float:
    service = await stage.service(database, role="all", HANDLERS="nothing", CONFIRM="never")
    async with lasting(service):
        report = await stage.load(service, file)
        report.rate("204")

        async def all_delivered() -> bool:
            return int(await look(database, DELIVERED)) == count

        await until(all_delivered, what="every delivery", pause=0.25)
    return count / (float(await look(database, LAST)) - report.began_at)


async def one_at_a_time(stage: Stage) -> list[Row]:
    """Return the time from the upstream's end to the start of the handler, with the outcome confirmed by a GET."""
    stage.write_handler()
    count, database = stage.sizes.one_by_one + WARM_UP, stage.sqlite("latency")
    await fill(database, a_task(), range(1, count + 1))
    posts = [_split(each) for each in read_requests(stage.requests("one", callbacks(range(1, count + 1))))]
    async with lasting(await stage.bare()) as bare:
        service = await stage.service(
            database, upstream=bare.url, role="all", HANDLERS="nothing", UPSTREAM_RATE="1000/s"
        )
        async with lasting(service):
            ended, floors = await _told(service, bare, posts)
            await until(lambda: _all_started(database, count), what="every handler's start")
        begun = await look(database, STARTS)
    waits = sorted([float(start) - end for start, end in zip(begun.split(","), ended, strict=True)][WARM_UP:])
    median, floor = statistics.median(waits), statistics.median(floors)
    worst = waits[int(len(waits) * 0.99)]
    return [
        Row(
            measure="upstream done → handler started, one at a time: median",
            figure=milliseconds(median),
            floor=f"{milliseconds(floor)} (POST + GET)",
            ratio=f"{median / floor:.2f}",
            target="4.00 or less",
            reached=median / floor <= MEDIAN,
        ),
        Row(measure="the same: p99", figure=milliseconds(worst), target="50 ms", reached=worst < P99),
    ]


async def _all_started(database: str, count: int) -> bool:
    return int(await look(database, "SELECT count(*) FROM attempts")) == count


async def _told(service: Child, bare: Child, posts: list[tuple[str, bytes]]) -> tuple[list[float], list[float]]:
    """Call back one by one; return when each task had ended, and how long the bare POST and GET took."""
    ended, floors = [], []
    async with httpx.AsyncClient(trust_env=False, headers={"Content-Type": "application/json"}) as http:
        for path, body in posts:
            began = time.perf_counter()
            (await http.post(bare.url + path, content=body)).raise_for_status()
            (await http.get(f"{bare.url}/model/v1/generation/task/d758n65100000000001")).raise_for_status()
            floors.append(time.perf_counter() - began)
            ended.append(time.time())
            (await http.post(service.url + path, content=body)).raise_for_status()
            await anyio.sleep(BETWEEN)
    return ended, floors


def _split(raw: bytes) -> tuple[str, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return head.split(b" ", 2)[1].decode(), body
