"""An idle service costs next to nothing."""

from time import monotonic

import anyio
import pytest

from tests.acceptance.environment import serve, settings, sqlite
from tests.acceptance.processes import HOST, Child, Workspace, command, free_port

MB = 1024 * 1024
MAX_MEMORY = 120 * MB
MAX_SHARE = 0.02
SETTLE, WATCH = 3.0, 10.0
"""Seconds after the start, and seconds that are measured: time itself is what this test is about."""


async def share_of(child: Child) -> float:
    """Return which share of a processor a process uses while nobody asks anything of it."""
    await anyio.sleep(SETTLE)
    before, began = child.processor_seconds(), monotonic()
    await anyio.sleep(WATCH)
    return (child.processor_seconds() - before) / (monotonic() - began)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_an_idle_process_rests(workspace: Workspace, kind: str, request: pytest.FixtureRequest) -> None:
    """It uses under 2 % of a core and under 120 MB."""
    url = sqlite(workspace) if kind == "sqlite" else request.getfixturevalue("empty_postgres")
    env = settings(f"http://{HOST}:9", f"http://{HOST}:{free_port()}", url)
    if kind == "postgresql":
        assert (await command(workspace, "migrate", env=env))[0] == 0
    child = await serve(workspace, env)
    share = await share_of(child)
    print(f"{kind}: {share:.2%} of a core, {child.memory() / MB:.0f} MB")  # noqa: T201 - the figures are to be seen
    assert share < MAX_SHARE
    assert child.memory() < MAX_MEMORY
