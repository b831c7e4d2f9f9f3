"""A log that nobody reads, or that nobody can read any more, while the service works at the level `debug`."""

import sys
from dataclasses import replace

from tests.acceptance.environment import client, sqlite
from tests.acceptance.processes import Workspace, until
from tests.acceptance.shutdown_helpers import SHUTDOWN_LIMIT
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Environment, open_environment
from tests.chaos.fleet import process_slot
from tests.support.stalled_reader import StalledReader

MAX_WAITING = 20_000
"""Characters that may wait, in this run: the usual limit would take minutes to reach."""

PROGRAM = f"""
import sys
from service.runtime import output_writer
output_writer.MAX_WAITING = {MAX_WAITING}
from service.cli import main
main(sys.argv[1:])
"""
LIMITED = (sys.executable, "-P", "-c", PROGRAM)
DROPPED = "boomerang_log_lines_dropped_total{"
REPORT = b'"log lines dropped"'
TASKS = 4
"""Tasks that are confirmed at a time while the reader stalls, until their lines fill the pipe and the queue."""


async def stalled_log(workspace: Workspace, effort: Effort) -> Audit:
    """Let the reader of the log stall again and again under load; stop the process while it stalls."""
    only = process_slot("all")
    reader = StalledReader(workspace.home / "output")
    try:
        async with open_environment(
            "the reader of the log stalls",
            workspace,
            sqlite(workspace),
            [only],
            command=reader.command(LIMITED),
            LOG_LEVEL="debug",
        ) as environment:
            await environment.fleet.started()
            for _ in range(effort.injections):
                before = await _dropped(only.url)
                while await _dropped(only.url) == before:
                    await environment.wait_for_progress(TASKS)
                await _reads_again(reader)
                environment.fleet.injected["stalls"] += 1
            await environment.wait_for_progress(TASKS)  # the reader stalls until the end of the process
            return _with_stop(await environment.audit(), environment)
    finally:
        workspace.end()
        reader.close()


async def _dropped(url: str) -> float:
    """Return how many lines the process has dropped."""
    async with client(url) as http:
        text = (await http.get("/metrics")).raise_for_status().text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(DROPPED))


async def _reads_again(reader: StalledReader) -> None:
    """Read until the service reports how many lines it has dropped."""
    before = reader.text.count(REPORT)  # a first read may have the report already: the service writes meanwhile
    await until(lambda: reader.read().count(REPORT) > before, what="the number of dropped lines")


def _with_stop(audit: Audit, environment: Environment) -> Audit:
    seconds = environment.fleet.stopped_after
    late = [f"the process ended after {seconds:.1f} s"] if seconds > SHUTDOWN_LIMIT else []
    return replace(audit, unexpected=[*audit.unexpected, *late])
