"""What reconciling costs: polls a second when every callback is lost, and requests to the upstream a task."""

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
from tests.benchmarks.environment import LATER, Stage, a_task, fill, lasting, look
from tests.benchmarks.table import Pairs, Row, rate

AT_ONCE = 16
POLLS = "SELECT count(*) FROM polls"
POLLER = 5.0
"""Seconds between the questions of the poller that everybody writes first."""

TYPICAL = 60.0
"""Seconds that half of the simulated tasks run at least; the rest follows a log-normal distribution."""


async def polls(stage: Stage) -> list[Row]:
    """Return polls a second, each confirmed end durably recorded, beside httpx GETs in a loop."""
    figures, floors, seconds = [], [], stage.sizes.poll_seconds
    database = stage.sqlite("polls")
    await fill(database, a_task(due_at=datetime.now(UTC)), range(1, stage.sizes.polls + 1))
    async with lasting(await stage.bare()) as bare:
        for _ in range(stage.sizes.pairs):
            floors.append(await _gets(stage, bare, seconds))
            figures.append(await _polls(stage, database, bare, seconds))
    pairs = Pairs(figures=figures, floors=floors)
    return [
        Row(
            measure=f"polls when {stage.sizes.polls:,} callbacks are lost, {AT_ONCE} at once",
            figure=rate(pairs.figure),
            floor=f"{rate(pairs.floor)} (httpx GETs)",
            ratio=pairs.spread,
            target="0.60",
            reached=pairs.ratio >= 0.6,
        )
    ]


async def _gets(stage: Stage, bare: Child, seconds: float) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.baseline_polling", bare.url, str(AT_ONCE), str(seconds)]
    done = await anyio.run_process(command, env=stage.town.environment(stage.path()))
    return float(done.stdout)


async def _polls(stage: Stage, database: str, bare: Child, seconds: float) -> float:
    """Return polls a second over some seconds, from the first one on; handlers that want none get none."""
    limits: dict[str, Any] = {"UPSTREAM_RATE": "100000/s", "UPSTREAM_CONCURRENCY": str(AT_ONCE)}
    before = int(await look(database, POLLS))
    service = await stage.service(database, upstream=bare.url, role="worker", HANDLERS="webhook", **limits)
    async with lasting(service):

        async def begun() -> bool:
            return int(await look(database, POLLS)) > before

        await until(begun, what="the first poll", pause=0.02)
        first, began = int(await look(database, POLLS)), anyio.current_time()
        await anyio.sleep(seconds)
        return (int(await look(database, POLLS)) - first) / (anyio.current_time() - began)


async def requests(stage: Stage) -> list[Row]:
    """Return requests to the upstream a task by the real plan on a virtual clock, with no callback and with all."""
    count = 2 * stage.sizes.histories  # the first half is only learned from
    seconds = [_run_time(random.Random(number)) for number in range(count)]  # noqa: S311 - no secret
    lost = _mean(_asked(seconds, called_back=False))
    told = _mean(_asked(seconds, called_back=True))
    poller = _mean([1 + ceil(each / POLLER) for each in seconds[count // 2 :]])
    return [
        Row(
            measure="requests to the upstream a task, callbacks healthy",
            figure=f"{told:.2f}",
            floor="2 (1 to submit, 1 to confirm)",
            ratio=f"{told / 2:.2f}",
            target="2.05 or less",
            reached=told <= 2.05,
        ),
        Row(
            measure="the same, callbacks believed without asking",
            figure=f"{told - 1:.2f}",
            floor="1 (to submit)",
            ratio=f"{told - 1:.2f}",
            target="1.05 or less",
            reached=told - 1 <= 1.05,
        ),
        Row(
            measure="the same, every callback lost",
            figure=f"{lost:.2f}",
            floor=f"{poller:.2f} (asking every {POLLER:.0f} s)",
            ratio=f"{lost / poller:.2f}",
            target="0.33 or less",
            reached=lost / poller <= 1 / 3,
        ),
    ]


def _run_time(dice: random.Random) -> float:
    return min(1800.0, TYPICAL * dice.lognormvariate(0, 0.4))


def _mean(values: list[int]) -> float:
    return sum(values) / len(values)


def _asked(seconds: list[float], *, called_back: bool) -> list[int]:
    """Return the requests that each task takes, once the plan has learned from the first half of them."""
    dice = random.Random(1)  # noqa: S311 - no secret
    plan = PollPlanner(
        poll_first=None,
        poll_max=timedelta(minutes=5),
        in_doubt_for=LATER,
        retention=LATER,
        lists=False,
        jitter=dice.random,
    )
    learned: list[RunTime] = []
    asked = []
    for run in seconds:
        task, requests = _lived(plan, run, called_back=called_back)
        end = replace(task, status=Status.COMPLETED, settled_by=Source.CALLBACK if called_back else Source.POLL)
        learned += filter(None, [plan.run_time(task, end, task.due_at or task.created_at)])
        newest = learned[-CALLBACKS_COUNTED:]
        callback_stats = CallbackStats(count=len(newest), lost=sum(not run.called_back for run in newest))
        plan.update_estimates(newest[-RUN_TIMES_PER_BUCKET:], callback_stats)
        asked.append(requests)
    return asked[len(asked) // 2 :]


def _lived(plan: PollPlanner, seconds: float, *, called_back: bool) -> tuple[Task, int]:
    """Return a task at the moment of its last question, and how many requests it took with its submission."""
    task, requests = a_task(), 1
    end = task.created_at + timedelta(seconds=seconds)
    while True:
        due_at = plan.due(task, task.polled_at or task.created_at) or end
        requests += 1
        if due_at >= end:
            hinted_at = end if called_back else None
            return replace(task, due_at=end if called_back else due_at, hinted_at=hinted_at), requests
        task = replace(task, polls=task.polls + 1, polled_at=due_at)
