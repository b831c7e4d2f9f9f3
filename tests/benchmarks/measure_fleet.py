"""What a fleet of processes gets done over one PostgreSQL, and what a model of two numbers says it should.

Model: on its way from the callback to the end of its handler, a task costs `d` processor seconds in all: of the
service's processes, of PostgreSQL and of the client that loads them, which share the machine. A process is one core's
worth of Python, so that n of them do at most n times what one does; the machine's C cores give at most C e / d, where
e is the share of them that is kept busy. The first bound is fitted on one process, d and e on two; what four do is
predicted.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import anyio

from tests.acceptance.processes import TICKS, Child, until
from tests.benchmarks.environment import Report, Stage, a_task, callbacks, fill, lasting, look
from tests.benchmarks.measure_deliveries import DELIVERED
from tests.benchmarks.table import Row, rate
from tests.support.postgres import PostgresServer, create_database, postgres_server

FLEETS = {1: ("all",), 2: ("web", "worker"), 4: ("web", "web", "worker", "worker")}
TICK = 1 / TICKS
"""The least processor time that is told apart from none, in seconds: a short run may take less."""
LAST = "SELECT extract(epoch FROM max(finished_at)) FROM attempts WHERE outcome = 'delivered'"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One fleet's run: tasks and acknowledgements a second, and the processor seconds of a task."""

    tasks: float
    acknowledged: float
    service: float
    postgres: float
    client: float

    @property
    def demand(self) -> float:
        """Return the processor seconds of one task in all."""
        return self.service + self.postgres + self.client


async def fleet(stage: Stage) -> list[Row]:
    """Return what fleets of 1, 2 and 4 processes do, beside the model's word."""
    stage.write_handler()
    with postgres_server(durable=True) as server:
        measured = {size: await _measured(stage, server, roles) for size, roles in FLEETS.items()}
    one, two = measured[1], measured[2]
    busy = two.tasks * two.demand / _cores()
    predicted = {size: min(size * one.tasks, _cores() * busy / two.demand) for size in FLEETS}
    return [*(_row(size, measured[size], predicted[size]) for size in FLEETS), *_capacities(one)]


def _row(size: int, measured: Measured, predicted: float) -> Row:
    parts = f"processor time of one {measured.service * 1e3:.2f} ms here, {measured.postgres * 1e3:.2f} ms there"
    kind = "predicted" if size == max(FLEETS) else "fitted"
    return Row(
        measure=f"tasks from callback to handler, PostgreSQL, {size} processes ({', '.join(FLEETS[size])}); {parts}",
        figure=f"{rate(measured.tasks)}, {rate(measured.acknowledged)} acknowledged",
        floor=f"{rate(predicted)} ({kind})",
        ratio=f"{measured.tasks / predicted:.2f}",
    )


def _capacities(one: Measured) -> list[Row]:
    """Return what each part would do with a core to itself."""
    return [
        Row(measure="one process with a core to itself", figure=f"{rate(1 / one.service)} (by its processor time)"),
        Row(measure="one PostgreSQL, for each core that it has", figure=f"{rate(1 / one.postgres)} (the same)"),
    ]


async def _measured(stage: Stage, server: PostgresServer, roles: Sequence[str]) -> Measured:
    count, database = stage.sizes.fleet, create_database(server.url)
    await fill(database, a_task(), range(1, count + 1))
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(lasting(await _started(stage, database, role))) for role in roles]
        before, busy_before = _busy(children), server.processor_seconds()
        receiving = [child for child, role in zip(children, roles, strict=True) if role != "worker"]
        reports = await _load(stage, receiving, count)

        async def all_delivered() -> bool:
            return int(await look(database, DELIVERED)) == count

        await until(all_delivered, what="every delivery", pause=0.5)
        began, last = min(each.began_at for each in reports), float(await look(database, LAST))
        answered = max(each.began_at + each.seconds for each in reports)
        return Measured(
            tasks=count / (last - began),
            acknowledged=count / (answered - began),
            service=max(_busy(children) - before, TICK) / count,
            postgres=max(server.processor_seconds() - busy_before, TICK) / count,
            client=sum(each.busy * each.seconds for each in reports) / count,
        )


def _busy(children: Iterable[Child]) -> float:
    return sum(map(Child.processor_seconds, children))


async def _started(stage: Stage, database: str, role: str) -> Child:
    return await stage.service(database, role=role, HANDLERS="nothing", CONFIRM="never")


async def _load(stage: Stage, webs: Sequence[Child], count: int) -> list[Report]:
    """Send the callbacks, divided among the processes that receive, all at once."""
    reports: list[Report] = []

    async def send(child: Child, numbers: range) -> None:
        file = stage.requests(f"fleet-{len(webs)}-{numbers.start}", callbacks(numbers))
        reports.append(await stage.load(child, file))

    async with anyio.create_task_group() as group:
        for index, child in enumerate(webs):
            numbers = range(index * count // len(webs) + 1, (index + 1) * count // len(webs) + 1)
            group.start_soon(partial(send, child, numbers))
    for each in reports:
        each.rate("204")
    return reports


def _cores() -> int:
    return os.cpu_count() or 1
