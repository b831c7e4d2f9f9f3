"""The faults by name, and the run of one fault."""

import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import anyio

from tests.acceptance.processes import Workspace
from tests.chaos import clocks, databases, disks, kills, outputs, servers
from tests.chaos.audit import Audit, Row
from tests.chaos.environment import Effort
from tests.chaos.requirements import Unavailable

Fault = Callable[[Workspace, Effort], Awaitable[Audit]]

KILLS: Mapping[str, Fault] = {
    "kill-sqlite": kills.kill_sqlite,
    "kill-postgres": kills.kill_postgres,
    "kill-shared-sqlite": kills.kill_shared_sqlite,
}
OTHER_FAULTS: Mapping[str, Fault] = {
    "restart-postgres": servers.restart_postgres,
    "cut-connections": servers.cut_connections,
    "failover": databases.failover,
    "vanish": databases.vanish,
    "kill-behind-pooler": databases.kill_behind_pooler,
    "stalled-log": outputs.stalled_log,
    "full-disk": disks.full_disk,
    "full-disk-postgres": disks.full_disk_postgres,
    "read-only-disk": disks.read_only_disk,
    "clock-forward": clocks.clock_forward,
    "clock-back": clocks.clock_back,
}
FAULTS: Mapping[str, Fault] = {**KILLS, **OTHER_FAULTS}
SHARES = {"kill-sqlite": 0.6, "kill-postgres": 0.22, "kill-shared-sqlite": 0.18}
"""Each fault's share of all kills."""

RUNS = 2
"""Runs in the long form, each with a new database and kills during its migration."""

INJECTIONS_EACH = 6
MINUTES = 30
"""Maximum duration of one run of a fault."""


def effort_for(name: str, kills: int, *, short: bool) -> Effort:
    """Return the effort of one fault, from the number of kills over all faults."""
    if name in SHARES:
        return Effort(kills=max(4, round(kills * SHARES[name])), injections=0, runs=1 if short else RUNS)
    return Effort(kills=0, injections=1 if short else INJECTIONS_EACH)


def run_fault(name: str, effort: Effort) -> Row:
    """Run one fault `effort.runs` times, each in a temporary directory."""
    row = Row(fault=name)
    for number in range(effort.runs):
        some = replace(effort, kills=effort.kills // effort.runs, seed=effort.seed + number)
        with (
            tempfile.TemporaryDirectory(prefix="boomerang-chaos-") as home,
            Workspace(home=Path(home), quiet=True) as workspace,
        ):
            try:
                row.audits.append(anyio.run(_bounded, FAULTS[name], workspace, some))
            except Unavailable as reason:
                return Row(fault=name, skipped=str(reason))
            except Exception as error:  # noqa: BLE001 - the other runs and faults are still reported
                row.broken.append(f"run {number + 1} failed unexpectedly: {_innermost(error)!r}")
    return replace(row, fault=row.audits[0].fault) if row.audits else row


def _innermost(error: BaseException) -> BaseException:
    return _innermost(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _bounded(fault: Fault, workspace: Workspace, effort: Effort) -> Audit:
    with anyio.fail_after(MINUTES * 60):
        return await fault(workspace, effort)
