"""Resource use of an idle service."""

import re
from pathlib import Path
from time import monotonic

import anyio
import pytest

from tests.acceptance.environment import serve, settings, sqlite
from tests.acceptance.processes import HOST, Child, Workspace, command, until
from tests.support.ports import free_port

MB = 1024 * 1024
MAX_MEMORY = 120 * MB
MAX_WAKE_UPS = 150.0
"""Wake-ups of all threads a second: some 80 on any machine, while the processor time depends on it and its load."""

SETTLE, MEASURE = 1.0, 10.0
"""Seconds before the measurement, after what is imported soon after a start, and its duration."""


def wake_ups(child: Child) -> int:
    """Return how often the threads of a process have waited for something so far (`proc(5)`)."""
    texts = [(each / "status").read_text() for each in Path(f"/proc/{child.process.pid}/task").iterdir()]
    return sum(
        int(count) for text in texts for count in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE)
    )


async def idle(child: Child) -> tuple[float, float]:
    """Return the wake-ups a second of an idle process, and the share of one core that it uses."""
    await until(lambda: "late imports done" in child.output(), what="the late imports")
    await anyio.sleep(SETTLE)
    woken, processor, began = wake_ups(child), child.processor_seconds(), monotonic()
    await anyio.sleep(MEASURE)
    seconds = monotonic() - began
    return (wake_ups(child) - woken) / seconds, (child.processor_seconds() - processor) / seconds


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
async def test_idle_process_sleeps_and_uses_little_memory(
    workspace: Workspace, kind: str, request: pytest.FixtureRequest
) -> None:
    """An idle process wakes up less than 150 times a second, and uses less than 120 MB."""
    url = sqlite(workspace) if kind == "sqlite" else request.getfixturevalue("empty_postgres")
    env = settings(f"http://{HOST}:9", f"http://{HOST}:{free_port()}", url, LOG_LEVEL="debug")
    if kind == "postgresql":
        assert (await command(workspace, "migrate", env=env))[0] == 0
    workspace.forks = False  # its memory and its work are measured
    child = await serve(workspace, env)
    woken, share = await idle(child)
    print(f"{kind}: {woken:.0f}/s, {share:.2%} of a core, {child.memory() / MB:.0f} MB")  # noqa: T201 - report the figures
    assert woken < MAX_WAKE_UPS
    assert child.memory() < MAX_MEMORY
