"""Start time of a process, and its memory when idle."""

import sys
import time
from statistics import median

import anyio

from tests.acceptance.environment import settings
from tests.acceptance.processes import BIN, HOST, Child, until
from tests.benchmarks.environment import BenchmarkEnvironment, stopping
from tests.benchmarks.load import request
from tests.benchmarks.table import Pairs, Row, milliseconds
from tests.support.ports import free_port

MB = 1024 * 1024
MAX_MB = 100
MAX_RATIO = 5.0
IDLE_AFTER = 3.0
"""Seconds after which a process counts as idle."""


async def starts(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the time from a process's start to its first 2xx, and its idle memory, beside the baseline server's."""
    figures, floors, memory, baseline_memory = [], [], [], []
    for _ in range(environment.sizes.starts):
        seconds, held = await _measure_start(environment, "bare", ["-m", "tests.benchmarks.baseline_server"])
        floors.append(seconds)
        baseline_memory.append(held)
        seconds, held = await _measure_start(environment, "service", [str(BIN / "boomerang"), "serve", "--port"])
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
            reached=pairs.ratio <= MAX_RATIO,
        ),
        Row(
            measure="idle memory",
            figure=f"{median(memory):.0f} MB",
            floor=f"{median(baseline_memory):.0f} MB",
            ratio=f"{median(memory) / median(baseline_memory):.2f}",
            target="100 MB",
            reached=median(memory) < MAX_MB,
        ),
    ]


async def _measure_start(environment: BenchmarkEnvironment, name: str, command: list[str]) -> tuple[float, float]:
    """Return the seconds to the first 2xx of a new process, and its memory in MB a little later."""
    port = free_port()
    env = settings(f"http://{HOST}:9", f"http://{HOST}:{port}", environment.sqlite("starts"), LEASE="60s")
    started_at = time.perf_counter()
    child = environment.workspace.run(
        name, [sys.executable, *command, str(port)], env={**env, **environment.path()}, url=f"http://{HOST}:{port}"
    )
    async with stopping(child):
        await until(lambda: _responds(child, port), what="the first 2xx", pause=0.01)
        seconds = time.perf_counter() - started_at
        await anyio.sleep(IDLE_AFTER if environment.sizes.starts > 1 else 0)
        return seconds, child.memory() / MB


async def _responds(child: Child, port: int) -> bool:
    if not child.alive:
        raise RuntimeError(child.output())
    try:
        async with await anyio.connect_tcp(HOST, port) as stream:
            await stream.send(request("GET", "/healthz"))
            return (await stream.receive()).startswith(b"HTTP/1.1 2")
    except OSError:
        return False
