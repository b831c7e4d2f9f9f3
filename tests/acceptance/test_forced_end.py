"""Forced exit: a handler blocks the shutdown, and the process logs it and exits before a platform kills it."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

import anyio

from tests.acceptance.environment import serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Child, Workspace, command, until
from tests.acceptance.shutdown_helpers import (
    SHUTDOWN_LIMIT,
    SLOW_HANDLER,
    install_handler,
    install_slow_handler,
    leases,
    rows,
    terminate_and_wait,
)
from tests.support.ports import free_port

UNRESPONSIVE_HANDLER = SLOW_HANDLER.replace(
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
BLOCKS_ON_CANCELLATION = UNRESPONSIVE_HANDLER.replace("continue", "time.sleep(3600)").replace(
    "import asyncio", "import asyncio\nimport time"
)


NAMED_IN_THE_LOG = {
    UNRESPONSIVE_HANDLER: '"handlers": ["slow"]',
    BLOCKED_THREAD: '"handler": "slow"',
    BLOCKS_ON_CANCELLATION: "",
}


async def test_handlers_do_not_block_the_exit(tmp_path: Path) -> None:
    """A handler that ignores cancellation or waits in a thread is logged; its delivery is released.

    One that blocks the event loop on cancellation costs the others their grace period only. The three processes wait
    for their ends at the same time.
    """
    async with AsyncExitStack() as stack:
        started = []
        for number, handler in enumerate(NAMED_IN_THE_LOG):
            workspace = stack.enter_context(Workspace(home=tmp_path / f"{number}", forks=True))
            install_handler(workspace, handler)
            started.append((workspace, await stack.enter_async_context(with_running_handler(workspace))))
        async with anyio.create_task_group() as group:
            for _, child in started:
                group.start_soon(assert_forced_exit, child)
        for (workspace, child), (handler, named) in zip(started, NAMED_IN_THE_LOG.items(), strict=True):
            assert named in child.output()
            assert leases(sqlite(workspace)) == [] or handler == BLOCKS_ON_CANCELLATION


async def test_unresponsive_handler_does_not_block_reconcile_once(workspace: Workspace) -> None:
    """The command exits, and the attempt counts, so that the delivery becomes a dead letter."""
    install_handler(workspace, UNRESPONSIVE_HANDLER.replace("timeout=120", "timeout=0.2"))
    async with upstream(workspace, "--tiny-videos", "--run-time", "60s") as sandbox:
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace), HANDLERS="slow")
        child = await serve(workspace, env, role="web")
        async with service(child) as at:
            await at.submit()
        await terminate_and_wait(child)
        code, _, output = await command(workspace, "reconcile", "--once", env=env)
        assert (code, '"submitted": 1' in output, "forcing exit" in output) == (1, True, True)
        assert rows(sqlite(workspace), "SELECT attempts, leased_until FROM deliveries") == [(1, None)]


async def test_second_interrupt_exits_immediately(workspace: Workspace) -> None:
    """A second SIGINT exits immediately; a second SIGTERM has no effect."""
    install_slow_handler(workspace)
    async with with_running_handler(workspace) as child:

        def exited_after_another_interrupt() -> bool:
            child.process.send_signal(signal.SIGINT)
            return not child.alive

        for number in (signal.SIGTERM, signal.SIGTERM):
            child.process.send_signal(number)
            await until(lambda: '"stopping"' in child.output(), what="the stop")
        await until(exited_after_another_interrupt, what="the end", seconds=3)
        assert child.process.returncode == 130


@asynccontextmanager
async def with_running_handler(workspace: Workspace) -> AsyncIterator[Child]:
    """Run a service whose only handler is running."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "60s") as sandbox:
        child = await serve(
            workspace, settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace), HANDLERS="slow")
        )
        async with service(child) as at:
            await at.submit()
            await until((workspace.home / "slow.began").exists, what="the handler")
            yield child


async def assert_forced_exit(child: Child) -> None:
    """Send SIGTERM, and check that the process logs a forced exit and exits with 1 in time."""
    started = monotonic()
    child.terminate()
    assert await child.ended(seconds=SHUTDOWN_LIMIT + 20) == 1
    assert monotonic() - started < SHUTDOWN_LIMIT
    assert "forcing exit" in child.output()
