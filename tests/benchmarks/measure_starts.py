"""How soon a process serves, and what it holds when it has nothing to do."""

import sys
import time
from statistics import median

import anyio

from tests.acceptance.environment import settings
from tests.acceptance.processes import HOST, Child, free_port, until
from tests.benchmarks.environment import Stage, lasting
from tests.benchmarks.load import request
from tests.benchmarks.table import Pairs, Row, milliseconds

MB = 1024 * 1024
MOST_MB = 100
MOST = 5.0
AT_REST = 3.0
"""Seconds after which a process counts as idle."""


async def starts(stage: Stage) -> list[Row]:
    """Return the time from a process's start to its first 2xx, and its memory at rest, beside a bare server's."""
    figures, floors, memory, bare_memory = [], [], [], []
    for _ in range(stage.sizes.starts):
        seconds, held = await _started(stage, "bare", ["-m", "tests.benchmarks.baseline_server"])
        floors.append(seconds)
        bare_memory.append(held)
        seconds, held = await _started(stage, "service", ["-m", "tests.benchmarks.child", "serve", "--port"])
        figures.append(seconds)
        memory.append(held)
    pairs = Pairs(figures=figures, floors=floors)
    return [
        Row(
            measure="process start → first 2xx",
            figure=milliseconds(pairs.figure),
            floor=f"{milliseconds(pairs.floor)} (Starlette and uvicorn)",
            ratio=pairs.spread,
            target="5.00 or less",
            reached=pairs.ratio <= MOST,
        ),
        Row(
            measure="memory at rest",
            figure=f"{median(memory):.0f} MB",
            floor=f"{median(bare_memory):.0f} MB",
            ratio=f"{median(memory) / median(bare_memory):.2f}",
            target="100 MB",
            reached=median(memory) < MOST_MB,
        ),
    ]


async def _started(stage: Stage, name: str, command: list[str]) -> tuple[float, float]:
    """Return the seconds to the first 2xx of a fresh process, and the MB it holds a little later."""
    port = free_port()
    env = settings(f"http://{HOST}:9", f"http://{HOST}:{port}", stage.sqlite("starts"), LEASE="60s")
    began = time.perf_counter()
    child = stage.workspace.run(
        name, [sys.executable, *command, str(port)], env={**env, **stage.path()}, url=f"http://{HOST}:{port}"
    )
    async with lasting(child):
        await until(lambda: _answers(child, port), what="the first 2xx", pause=0.01)
        seconds = time.perf_counter() - began
        await anyio.sleep(AT_REST if stage.sizes.starts > 1 else 0)
        return seconds, child.memory() / MB


async def _answers(child: Child, port: int) -> bool:
    if not child.alive:
        raise RuntimeError(child.output())
    try:
        async with await anyio.connect_tcp(HOST, port) as stream:
            await stream.send(request("GET", "/healthz"))
            return (await stream.receive()).startswith(b"HTTP/1.1 2")
    except OSError:
        return False
