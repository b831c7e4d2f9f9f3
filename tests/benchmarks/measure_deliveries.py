"""Time from an outcome to its handler: many at once, and one at a time.

Not default are the `concurrency` of the handler (256 instead of 16), CONFIRM=never for many at once, UPSTREAM_RATE for
single ones (CONFIRM=always, the default), the addresses and keys, HANDLERS, and what `BenchmarkEnvironment.service`
names.
"""

import statistics
import time
from pathlib import Path

import anyio
import httpx

from tests.acceptance.processes import Child, until
from tests.benchmarks.environment import BenchmarkEnvironment, callbacks, fill, make_task, query_value, stopping
from tests.benchmarks.load import read_requests
from tests.benchmarks.table import Pairs, Row, milliseconds, rate

SETTING = "CONFIRM=never, handler concurrency 256"
MAX_MEDIAN_RATIO, MAX_P99 = 4.0, 0.050
WARM_UP = 3
PAUSE = 0.05
"""Seconds between two single outcomes, so that the service is idle at each."""

DELIVERED = "SELECT count(*) FROM attempts WHERE outcome = 'delivered'"
LAST = "SELECT max(finished_at) / 1e6 FROM attempts WHERE outcome = 'delivered'"
STARTS = "SELECT group_concat(at) FROM (SELECT started_at / 1e6 AS at FROM attempts ORDER BY started_at)"


async def many(environment: BenchmarkEnvironment) -> list[Row]:
    """Return deliveries per second through a handler that does nothing, with durable commits."""
    environment.write_handler()
    count, figures, floors = environment.sizes.deliveries, [], []
    async with stopping(await environment.baseline()) as baseline:
        for turn in range(environment.sizes.pairs):
            database = environment.sqlite(f"deliveries-{turn}")
            await fill(database, make_task(), range(1, count + 1))
            file = environment.requests(f"deliveries-{turn}", callbacks(range(1, count + 1)))
            floors.append((await environment.load(baseline, file)).rate("204"))
            figures.append(await _delivery_rate(environment, database, file, count))
    pairs = Pairs(figures=figures, floors=floors)
    return [
        Row(
            measure=f"deliveries, from the first of {count:,} callbacks to the last handler run, {SETTING}",
            figure=rate(pairs.figure),
            floor=rate(pairs.floor),
            ratio=pairs.spread,
            target="0.12",
            reached=pairs.ratio >= 0.12,
        )
    ]


async def _delivery_rate(environment: BenchmarkEnvironment, database: str, file: Path, count: int) -> float:
    service = await environment.service(database, role="all", HANDLERS="nothing", CONFIRM="never")
    async with stopping(service):
        report = await environment.load(service, file)
        report.rate("204")

        async def all_delivered() -> bool:
            return int(await query_value(database, DELIVERED)) == count

        await until(all_delivered, what="every delivery", pause=0.25)
    return count / (float(await query_value(database, LAST)) - report.began_at)


async def one_at_a_time(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the time from the task's end at the provider to the start of the handler, with a confirming GET."""
    environment.write_handler()
    count, database = environment.sizes.sequential + WARM_UP, environment.sqlite("latency")
    await fill(database, make_task(), range(1, count + 1))
    posts = [_split(each) for each in read_requests(environment.requests("one", callbacks(range(1, count + 1))))]
    async with stopping(await environment.baseline()) as baseline:
        service = await environment.service(
            database, upstream=baseline.url, role="all", HANDLERS="nothing", UPSTREAM_RATE="1000/s"
        )
        async with stopping(service):
            ended, floors = await _send_callbacks(service, baseline, posts)
            await until(lambda: _all_started(database, count), what="every handler's start")
        started = await query_value(database, STARTS)
    waits = sorted([float(start) - end for start, end in zip(started.split(","), ended, strict=True)][WARM_UP:])
    median, floor = statistics.median(waits), statistics.median(floors)
    worst = waits[int(len(waits) * 0.99)]
    return [
        Row(
            measure="upstream done → handler started, one at a time, CONFIRM=always: median",
            figure=milliseconds(median),
            floor=f"{milliseconds(floor)} (POST + GET)",
            ratio=f"{median / floor:.2f}",
            target="4.00 or less",
            reached=median / floor <= MAX_MEDIAN_RATIO,
        ),
        Row(measure="the same: p99", figure=milliseconds(worst), target="50 ms", reached=worst < MAX_P99),
    ]


async def _all_started(database: str, count: int) -> bool:
    return int(await query_value(database, "SELECT count(*) FROM attempts")) == count


async def _send_callbacks(
    service: Child, baseline: Child, posts: list[tuple[str, bytes]]
) -> tuple[list[float], list[float]]:
    """Send callbacks one by one; return when each task had ended, and the time of the baseline's POST and GET."""
    ended, floors = [], []
    async with httpx.AsyncClient(trust_env=False, headers={"Content-Type": "application/json"}) as http:
        for path, body in posts:
            began = time.perf_counter()
            (await http.post(baseline.url + path, content=body)).raise_for_status()
            (await http.get(f"{baseline.url}/model/v1/generation/task/d758n65100000000001")).raise_for_status()
            floors.append(time.perf_counter() - began)
            ended.append(time.time())
            (await http.post(service.url + path, content=body)).raise_for_status()
            await anyio.sleep(PAUSE)
    return ended, floors


def _split(raw: bytes) -> tuple[str, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return head.split(b" ", 2)[1].decode(), body
