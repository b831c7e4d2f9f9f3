"""Throughput of several processes over one PostgreSQL, beside a model with two parameters.

Model: from the callback to the end of its handler, a task takes `d` processor seconds in total: in the service's
processes, in PostgreSQL and in the load client, which share the machine. A Python process uses at most one core, so
that n processes do at most n times the work of one; the machine's C cores give at most C e / d, where e is the used
share of them. The first limit is fitted on one process, d and e on two processes; the rate of four is predicted.

Not default are CONFIRM=never (so no request to a provider), the `concurrency` of the handler (256 instead of 16), the
addresses and keys, HANDLERS, and what `BenchmarkEnvironment.service` names. The callbacks are sent as soon as the
processes are ready, while these still import the pages.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import anyio

from tests.acceptance.processes import TICKS, Child, until
from tests.benchmarks.environment import (
    BenchmarkEnvironment,
    LoadReport,
    callbacks,
    fill,
    make_task,
    query_value,
    stopping,
)
from tests.benchmarks.measure_deliveries import DELIVERED
from tests.benchmarks.table import Row, rate
from tests.support.postgres import PostgresServer, create_database, postgres_server

FLEETS = {1: ("all",), 2: ("web", "worker"), 4: ("web", "web", "worker", "worker")}
SETTING = "PostgreSQL, CONFIRM=never, handler concurrency 256"
TOLERANCE = 0.15
"""Error of the prediction up to which the model holds."""

TICK = 1 / TICKS
"""Resolution of processor time in seconds: a short run may take less."""
LAST = "SELECT extract(epoch FROM max(finished_at)) FROM attempts WHERE outcome = 'delivered'"


@dataclass(frozen=True, kw_only=True)
class FleetRun:
    """Result of one run: tasks and acknowledgements per second, and the processor seconds per task."""

    tasks: float
    acknowledged: float
    service: float
    postgres: float
    client: float

    @property
    def demand(self) -> float:
        """Return the total processor seconds of one task."""
        return self.service + self.postgres + self.client


async def fleet(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the rates of 1, 2 and 4 processes beside the model's."""
    environment.write_handler()
    with postgres_server(durable=True) as server:
        measured = {size: await _measure(environment, server, roles) for size, roles in FLEETS.items()}
    one, two = measured[1], measured[2]
    busy = two.tasks * two.demand / _cores()
    predicted = {size: min(size * one.tasks, _cores() * busy / two.demand) for size in FLEETS}
    rows = [_row(size, measured[size], predicted[size]) for size in FLEETS]
    return [*rows, _accuracy(measured[max(FLEETS)], predicted[max(FLEETS)], two), *_capacities(one)]


def _row(size: int, measured: FleetRun, predicted: float) -> Row:
    parts = f"processor time of one {measured.service * 1e3:.2f} ms here, {measured.postgres * 1e3:.2f} ms there"
    kind = "predicted" if size == max(FLEETS) else "fitted"
    return Row(
        measure=f"tasks from callback to handler, {SETTING}, {size} processes ({', '.join(FLEETS[size])}); {parts}",
        figure=f"{rate(measured.tasks)}, {rate(measured.acknowledged)} acknowledged",
        floor=f"{rate(predicted)} ({kind})",
        ratio=f"{measured.tasks / predicted:.2f}",
    )


def _accuracy(four: FleetRun, predicted: float, two: FleetRun) -> Row:
    """Return whether the prediction holds within TOLERANCE, and which of its two parameters have changed since."""
    cores = _cores()
    costs, busy = (four.demand / two.demand, four.tasks * four.demand / cores / (two.tasks * two.demand / cores))
    return Row(
        measure="the prediction for 4 processes; a task's processor time and the used share of the machine beside those"
        " of 2 processes, from which it follows",
        figure=f"{four.tasks / predicted - 1:+.0%}; {costs:.2f} and {busy:.2f} times",
        target=f"within {TOLERANCE:.0%}",
        reached=abs(four.tasks / predicted - 1) <= TOLERANCE,
    )


def _capacities(one: FleetRun) -> list[Row]:
    """Return the rate of each part with its own core."""
    return [
        Row(measure="one process with a core to itself", figure=f"{rate(1 / one.service)} (by its processor time)"),
        Row(measure="one PostgreSQL, for each core that it has", figure=f"{rate(1 / one.postgres)} (the same)"),
    ]


async def _measure(environment: BenchmarkEnvironment, server: PostgresServer, roles: Sequence[str]) -> FleetRun:
    count, database = environment.sizes.fleet, create_database(server.url)
    await fill(database, make_task(), range(1, count + 1))
    async with AsyncExitStack() as stack:
        children = [
            await stack.enter_async_context(stopping(await _start(environment, database, role))) for role in roles
        ]
        before, busy_before = _processor_seconds(children), server.processor_seconds()
        receiving = [child for child, role in zip(children, roles, strict=True) if role != "worker"]
        reports = await _load(environment, receiving, count)

        async def all_delivered() -> bool:
            return int(await query_value(database, DELIVERED)) == count

        await until(all_delivered, what="every delivery", pause=0.5)
        began, last = min(each.began_at for each in reports), float(await query_value(database, LAST))
        answered = max(each.began_at + each.seconds for each in reports)
        return FleetRun(
            tasks=count / (last - began),
            acknowledged=count / (answered - began),
            service=max(_processor_seconds(children) - before, TICK) / count,
            postgres=max(server.processor_seconds() - busy_before, TICK) / count,
            client=sum(each.busy * each.seconds for each in reports) / count,
        )


def _processor_seconds(children: Iterable[Child]) -> float:
    return sum(map(Child.processor_seconds, children))


async def _start(environment: BenchmarkEnvironment, database: str, role: str) -> Child:
    return await environment.service(database, role=role, HANDLERS="nothing", CONFIRM="never")


async def _load(environment: BenchmarkEnvironment, webs: Sequence[Child], count: int) -> list[LoadReport]:
    """Send the callbacks at once, divided among the processes that receive callbacks."""
    reports: list[LoadReport] = []

    async def send(child: Child, numbers: range) -> None:
        file = environment.requests(f"fleet-{len(webs)}-{numbers.start}", callbacks(numbers))
        reports.append(await environment.load(child, file))

    async with anyio.create_task_group() as group:
        for index, child in enumerate(webs):
            numbers = range(index * count // len(webs) + 1, (index + 1) * count // len(webs) + 1)
            group.start_soon(partial(send, child, numbers))
    for each in reports:
        each.rate("204")
    return reports


def _cores() -> int:
    return os.cpu_count() or 1
