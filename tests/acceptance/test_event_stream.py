"""The event stream over connections that are cut; the long form is `python -m tests.acceptance.event_stream`."""

from tests.acceptance.event_stream import run
from tests.acceptance.processes import Workspace


async def test_cut_connections_lose_and_repeat_no_event(workspace: Workspace, empty_postgres: str) -> None:
    """500 events of concurrent writers reach a reader whose connections to two processes are cut ten times."""
    await run(workspace, empty_postgres, events=500, cuts=10)
