"""Resource use of an idle service."""

from time import monotonic

import anyio
import pytest

from tests.acceptance.environment import serve, settings, sqlite
from tests.acceptance.processes import HOST, Child, Workspace, command, free_port, until

MB = 1024 * 1024
MAX_MEMORY = 120 * MB
MAX_SHARE = 0.02
SETTLE, MEASURE = 1.0, 10.0
"""Seconds before the measurement, after what is imported soon after a start, and its duration."""


async def share_of(child: Child) -> float:
    """Return the share of one core that an idle process uses."""
    await until(lambda: "late imports done" in child.output(), what="the late imports")
    await anyio.sleep(SETTLE)
    before, began = child.processor_seconds(), monotonic()
    await anyio.sleep(MEASURE)
    return (child.processor_seconds() - before) / (monotonic() - began)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
async def test_idle_process_uses_little_cpu_and_memory(
    workspace: Workspace, kind: str, request: pytest.FixtureRequest
) -> None:
    """An idle process uses less than 2 % of a core and 120 MB."""
    url = sqlite(workspace) if kind == "sqlite" else request.getfixturevalue("empty_postgres")
    env = settings(f"http://{HOST}:9", f"http://{HOST}:{free_port()}", url, LOG_LEVEL="debug")
    if kind == "postgresql":
        assert (await command(workspace, "migrate", env=env))[0] == 0
    child = await serve(workspace, env)
    share = await share_of(child)
    print(f"{kind}: {share:.2%} of a core, {child.memory() / MB:.0f} MB")  # noqa: T201 - report the figures
    assert share < MAX_SHARE
    assert child.memory() < MAX_MEMORY
