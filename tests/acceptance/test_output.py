"""Output that nobody reads, that nobody can read, and standard streams that are closed."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import anyio
import pytest

from tests.acceptance.environment import service, settings, sqlite, upstream
from tests.acceptance.processes import BIN, HOST, Child, Workspace, until, wait_for_response
from tests.acceptance.shutdown_helpers import SHUTDOWN_LIMIT, install_handler, terminate_and_wait
from tests.support.ports import free_port
from tests.support.stalled_reader import StalledReader

PRINTING_HANDLER = """
import sys
from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on(name="slow")
async def slow(event: Event, tools: Tools) -> None:
    print("x" * 100_000)
    print("y" * 100_000, file=sys.stderr)
"""


@pytest.fixture
def reader(workspace: Workspace) -> Iterator[StalledReader]:
    """Yield a reader that stalls from the start."""
    reader = StalledReader(workspace.home / "output")
    yield reader
    reader.close()


def start(workspace: Workspace, reader: StalledReader, env: dict[str, str]) -> Child:
    """Start the service with its output to the reader."""
    port = free_port()
    command = [str(BIN / "boomerang"), "serve", "--port", str(port)]
    return workspace.run("serve", reader.command(command), env=env, url=f"http://{HOST}:{port}")


async def test_stalled_reader_costs_lines_and_nothing_else(workspace: Workspace, reader: StalledReader) -> None:
    """Requests, deliveries and the stop go on, handlers may print; what was lost is in the metrics."""
    install_handler(workspace, PRINTING_HANDLER)
    async with upstream(workspace, "--tiny-videos", "--run-time", "200ms") as sandbox:
        env = settings(sandbox.url, None, sqlite(workspace), HANDLERS="log,slow", LOG_LEVEL="debug", POLL_FIRST="200ms")
        child = start(workspace, reader, env)
        await wait_for_response(child)
        async with service(child) as at:
            with anyio.fail_after(60):
                while not (await at.metrics()).get('boomerang_log_lines_dropped_total{reason="full"}'):
                    await at.wait_until_settled((await at.submit())["id"])
            await at.wait_until_idle()
        began = monotonic()
        child.terminate()
        assert await child.ended(seconds=SHUTDOWN_LIMIT + 20) == 0
        assert monotonic() - began < SHUTDOWN_LIMIT
        assert b'"starting"' in reader.read()


async def test_count_is_logged_when_the_reader_reads_again(workspace: Workspace, reader: StalledReader) -> None:
    """The line stands where the lost ones are missing, and the last lines of the stop arrive."""
    install_handler(workspace, PRINTING_HANDLER)
    async with upstream(workspace, "--tiny-videos", "--run-time", "200ms") as sandbox:
        env = settings(sandbox.url, None, sqlite(workspace), HANDLERS="log,slow", POLL_FIRST="200ms")
        child = start(workspace, reader, env)
        await wait_for_response(child)
        async with service(child) as at:
            with anyio.fail_after(60):
                while not (await at.metrics()).get('boomerang_log_lines_dropped_total{reason="full"}'):
                    await at.wait_until_settled((await at.submit())["id"])
        await until(lambda: b'"log lines dropped"' in reader.read(), what="the count")
        child.terminate()

        def ended() -> bool:
            reader.read()
            return not child.alive

        await until(ended, what="the end")
        assert b'"stopped"' in reader.read()


async def test_reader_that_went_away_stops_nothing(workspace: Workspace, reader: StalledReader) -> None:
    """The log collector was killed: writes fail with EPIPE, and the service works on."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "200ms") as sandbox:
        env = settings(sandbox.url, None, sqlite(workspace), HANDLERS="log", POLL_FIRST="200ms")
        child = start(workspace, reader, env)
        await wait_for_response(child)
        reader.close()
        async with service(child) as at:
            await at.wait_until_settled((await at.submit())["id"])
            assert (await at.metrics())['boomerang_log_lines_dropped_total{reason="failed"}'] > 0
        await terminate_and_wait(child)


@pytest.mark.parametrize(
    "closed",
    [
        pytest.param("2>&-", marks=pytest.mark.slow),
        pytest.param("1>&- 2>&-", marks=pytest.mark.slow),
        "0<&- 1>&- 2>&-",
    ],
)
async def test_closed_streams_are_not_taken_by_the_database(workspace: Workspace, closed: str) -> None:
    """What a handler prints to standard error would be written into the file that got its number."""
    install_handler(workspace, PRINTING_HANDLER)
    async with upstream(workspace, "--tiny-videos", "--run-time", "200ms") as sandbox:
        env = settings(sandbox.url, None, sqlite(workspace), HANDLERS="log,slow", POLL_FIRST="200ms")
        port = free_port()
        command = f"exec {BIN / 'boomerang'} serve --port {port} {closed}"
        child = workspace.run("serve", ["/bin/sh", "-c", command], env=env, url=f"http://{HOST}:{port}")
        await wait_for_response(child)
        async with service(child) as at:
            await at.wait_until_settled((await at.submit())["id"])
            await at.wait_until_idle()
        await terminate_and_wait(child)
    with closing(sqlite3.connect(workspace.home / "boomerang.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
