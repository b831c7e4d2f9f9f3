"""The end of a process that something in it will not let end: it says so, and comes before a platform kills."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from tests.acceptance.environment import serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Child, Town, command, free_port, until
from tests.acceptance.shutdown_helpers import (
    SLOW_HANDLER,
    WITHIN,
    leases,
    rows,
    stopped,
    with_handler,
    with_slow_handler,
)

DEAF_HANDLER = SLOW_HANDLER.replace(
    "await asyncio.sleep(0.05)",
    """
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue
""",
).replace('Path("slow.wait").exists()', "True")
BLOCKED_THREAD = (
    SLOW_HANDLER.replace("await asyncio.sleep(0.05)", "await asyncio.to_thread(time.sleep, 3600)")
    .replace("import asyncio", "import asyncio\nimport time")
    .replace('Path("slow.wait").exists()', "True")
)
BLOCKS_AT_ITS_END = DEAF_HANDLER.replace("continue", "time.sleep(3600)").replace(
    "import asyncio", "import asyncio\nimport time"
)


@pytest.mark.parametrize(
    ("handler", "named"),
    [(DEAF_HANDLER, '"handlers": ["slow"]'), (BLOCKED_THREAD, '"handler": "slow"')],
    ids=["deaf", "blocked thread"],
)
async def test_a_handler_that_will_not_end_holds_no_process(town: Town, handler: str, named: str) -> None:
    """What swallows its cancellation, or waits in a thread, is named; its delivery is given back, the process ends."""
    with_handler(town, handler)
    async with with_the_handler_in_hand(town) as child:
        await ended_by_force(child)
        assert leases(sqlite(town)) == []
        assert named in child.said()


async def test_a_handler_that_will_not_end_holds_no_process_that_does_one_round(town: Town) -> None:
    """A cron job that meets it ends each time, and the attempt counts, so that it is a dead letter one day."""
    with_handler(town, DEAF_HANDLER.replace("timeout=120", "timeout=0.2"))
    async with upstream(town, "--tiny-videos", "--run-time", "60s") as sandbox:
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(town), HANDLERS="slow")
        child = await serve(town, env, role="web")
        async with service(child) as at:
            await at.submit()
        await stopped(child)
        code, _, told = await command(town, "reconcile", "--once", env=env)
        assert (code, '"submitted": 1' in told, "forcing exit" in told) == (1, True, True)
        assert rows(sqlite(town), "SELECT attempts, leased_until FROM deliveries") == [(1, None)]


async def test_a_handler_that_holds_up_the_whole_stop_holds_no_process(town: Town) -> None:
    """What blocks the event loop while it is cut off costs the others their goodbye, and not a kill by the platform."""
    with_handler(town, BLOCKS_AT_ITS_END)
    async with with_the_handler_in_hand(town) as child:
        await ended_by_force(child)


async def test_a_second_interrupt_ends_the_process_at_once(town: Town) -> None:
    """Ctrl-C asks to stop, and a second one does not wait; SIGTERM twice is once."""
    with_slow_handler(town)
    async with with_the_handler_in_hand(town) as child:

        def ended_when_pressed_again() -> bool:
            child.process.send_signal(signal.SIGINT)
            return not child.alive

        for number in (signal.SIGTERM, signal.SIGTERM):
            child.process.send_signal(number)
            await until(lambda: '"stopping"' in child.said(), what="the stop")
        await until(ended_when_pressed_again, what="the end", seconds=3)
        assert child.process.returncode == 130


@asynccontextmanager
async def with_the_handler_in_hand(town: Town) -> AsyncIterator[Child]:
    """Run a service whose only handler has begun."""
    async with upstream(town, "--tiny-videos", "--run-time", "60s") as sandbox:
        child = await serve(town, settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(town), HANDLERS="slow"))
        async with service(child) as at:
            await at.submit()
            await until((town.home / "slow.began").exists, what="the handler")
            yield child


async def ended_by_force(child: Child) -> None:
    """Send SIGTERM, and see the process end in time though something in it does not, and say so."""
    asked = monotonic()
    child.ask_to_stop()
    assert await child.ended(seconds=WITHIN + 20) == 1
    assert monotonic() - asked < WITHIN
    assert "forcing exit" in child.said()
