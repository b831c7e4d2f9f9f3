"""Cost of reconciling: polls per second without callbacks, and requests to the provider per task."""

import random
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

import anyio

from service.domain.poll_planner import PollPlanner
from service.domain.poll_schedule import CallbackStats
from service.domain.ports.unit_of_work import RunTime
from service.domain.task import Source, Status, Task
from service.tasks.poller import CALLBACKS_COUNTED, RUN_TIMES_PER_BUCKET
from tests.acceptance.processes import Child, until
from tests.benchmarks.environment import HOUR, BenchmarkEnvironment, fill, make_task, query_value, stopping
from tests.benchmarks.table import Pairs, Row, rate

CONCURRENCY = 16
POLLS = "SELECT count(*) FROM polls"
POLL_INTERVAL = 5.0
"""Seconds between the polls of a simple poller with a fixed interval."""

TYPICAL = 60.0
"""Median run time of simulated tasks in seconds; run times follow a log-normal distribution."""


async def polls(environment: BenchmarkEnvironment) -> list[Row]:
    """Return polls per second, each confirmed end durably recorded, beside httpx GETs in a loop."""
    figures, floors, seconds = [], [], environment.sizes.poll_seconds
    database = environment.sqlite("polls")
    await fill(database, make_task(due_at=datetime.now(UTC)), range(1, environment.sizes.polls + 1))
    async with stopping(await environment.baseline()) as baseline:
        for _ in range(environment.sizes.pairs):
            floors.append(await _baseline_rate(environment, baseline, seconds))
            figures.append(await _poll_rate(environment, database, baseline, seconds))
    pairs = Pairs(figures=figures, floors=floors)
    return [
        Row(
            measure=f"polls when {environment.sizes.polls:,} callbacks are lost, {CONCURRENCY} at once",
            figure=rate(pairs.figure),
            floor=f"{rate(pairs.floor)} (httpx GETs)",
            ratio=pairs.spread,
            target="0.60",
            reached=pairs.ratio >= 0.6,
        )
    ]


async def _baseline_rate(environment: BenchmarkEnvironment, baseline: Child, seconds: float) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.baseline_polling", baseline.url, str(CONCURRENCY), str(seconds)]
    done = await anyio.run_process(command, env=environment.workspace.environment(environment.path()))
    return float(done.stdout)


async def _poll_rate(environment: BenchmarkEnvironment, database: str, baseline: Child, seconds: float) -> float:
    """Return polls per second over some seconds, from the first poll; no handler is subscribed."""
    limits: dict[str, Any] = {"UPSTREAM_RATE": "100000/s", "UPSTREAM_CONCURRENCY": str(CONCURRENCY)}
    before = int(await query_value(database, POLLS))
    service = await environment.service(database, upstream=baseline.url, role="worker", HANDLERS="webhook", **limits)
    async with stopping(service):

        async def begun() -> bool:
            return int(await query_value(database, POLLS)) > before

        await until(begun, what="the first poll", pause=0.02)
        first, began = int(await query_value(database, POLLS)), anyio.current_time()
        await anyio.sleep(seconds)
        return (int(await query_value(database, POLLS)) - first) / (anyio.current_time() - began)


async def requests(environment: BenchmarkEnvironment) -> list[Row]:
    """Return requests to the provider per task by the real planner in virtual time, without and with all callbacks."""
    count = 2 * environment.sizes.histories  # the first half only serves the estimates
    seconds = [_run_time(random.Random(number)) for number in range(count)]  # noqa: S311 - no secret
    without_callbacks = _mean(_request_counts(seconds, called_back=False))
    with_callbacks = _mean(_request_counts(seconds, called_back=True))
    poller = _mean([1 + ceil(each / POLL_INTERVAL) for each in seconds[count // 2 :]])
    return [
        Row(
            measure="requests to the provider per task, callbacks healthy",
            figure=f"{with_callbacks:.2f}",
            floor="2 (1 to submit, 1 to confirm)",
            ratio=f"{with_callbacks / 2:.2f}",
            target="2.05 or less",
            reached=with_callbacks <= 2.05,
        ),
        Row(
            measure="the same, callbacks accepted unconfirmed",
            figure=f"{with_callbacks - 1:.2f}",
            floor="1 (to submit)",
            ratio=f"{with_callbacks - 1:.2f}",
            target="1.05 or less",
            reached=with_callbacks - 1 <= 1.05,
        ),
        Row(
            measure="the same, every callback lost",
            figure=f"{without_callbacks:.2f}",
            floor=f"{poller:.2f} (a poll every {POLL_INTERVAL:.0f} s)",
            ratio=f"{without_callbacks / poller:.2f}",
            target="0.33 or less",
            reached=without_callbacks / poller <= 1 / 3,
        ),
    ]


def _run_time(randomness: random.Random) -> float:
    return min(1800.0, TYPICAL * randomness.lognormvariate(0, 0.4))


def _mean(values: list[int]) -> float:
    return sum(values) / len(values)


def _request_counts(seconds: list[float], *, called_back: bool) -> list[int]:
    """Return the requests of each task, after the planner has estimated run times from the first half of them."""
    randomness = random.Random(1)  # noqa: S311 - no secret
    planner = PollPlanner(
        poll_first=None,
        poll_max=timedelta(minutes=5),
        in_doubt_for=HOUR,
        retention=HOUR,
        lists=False,
        jitter=randomness.random,
    )
    run_times: list[RunTime] = []
    counts = []
    for run in seconds:
        task, requests = _simulate_task(planner, run, called_back=called_back)
        end = replace(task, status=Status.COMPLETED, settled_by=Source.CALLBACK if called_back else Source.POLL)
        run_times += filter(None, [planner.run_time(task, end, task.due_at or task.created_at)])
        newest = run_times[-CALLBACKS_COUNTED:]
        callback_stats = CallbackStats(count=len(newest), lost=sum(not run.called_back for run in newest))
        planner.update_estimates(newest[-RUN_TIMES_PER_BUCKET:], callback_stats)
        counts.append(requests)
    return counts[len(counts) // 2 :]


def _simulate_task(planner: PollPlanner, seconds: float, *, called_back: bool) -> tuple[Task, int]:
    """Return a task at its last poll, and the number of its requests including the submission."""
    task, requests = make_task(), 1
    end = task.created_at + timedelta(seconds=seconds)
    while True:
        due_at = planner.due(task, task.polled_at or task.created_at) or end
        requests += 1
        if due_at >= end:
            hinted_at = end if called_back else None
            return replace(task, due_at=end if called_back else due_at, hinted_at=hinted_at), requests
        task = replace(task, polls=task.polls + 1, polled_at=due_at)
