"""Processor time of a process while many clients wait for tasks and nothing happens."""

from contextlib import AsyncExitStack

import anyio

from tests.acceptance.processes import HOST, Child
from tests.benchmarks.environment import BenchmarkEnvironment, fill, make_task, stopping, task_id
from tests.benchmarks.load import request
from tests.benchmarks.table import Row

MAX_SHARE = 0.02
"""Share of a core that the waits may take together."""


async def waits(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the share of a core that a process takes while clients wait, beside the same process without them."""
    database, count = environment.sqlite("waits"), environment.sizes.waits
    await fill(database, make_task(), range(1, count + 1))
    async with stopping(await environment.service(database)) as service, AsyncExitStack() as stack:
        idle = await _share(service, environment.sizes.wait_seconds)
        port = int(service.url.rpartition(":")[2])
        for number in range(1, count + 1):
            stream = await stack.enter_async_context(await anyio.connect_tcp(HOST, port))
            await stream.send(request("GET", f"/v1/tasks/{task_id(number)}?wait=60"))
        waiting = await _share(service, environment.sizes.wait_seconds)
    return [
        Row(
            measure=f"share of a core while {count} clients wait",
            figure=f"{waiting:.1%}",
            floor=f"{idle:.1%} (without them)",
            ratio="",
            target=f"{MAX_SHARE:.0%} more",
            reached=waiting - idle <= MAX_SHARE,
        )
    ]


async def _share(child: Child, seconds: float) -> float:
    """Return the share of a core that `child` takes during `seconds`, after it has come to rest."""
    await anyio.sleep(min(seconds, 2))
    before = child.processor_seconds()
    await anyio.sleep(seconds)
    return (child.processor_seconds() - before) / seconds
