"""The faults by their names, and how one is played."""

import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import anyio

from tests.acceptance.processes import Workspace
from tests.chaos import clocks, disks, kills, servers
from tests.chaos.audit import Audit, Row
from tests.chaos.environment import Effort
from tests.chaos.requirements import Impossible

Fault = Callable[[Workspace, Effort], Awaitable[Audit]]

KILLS: Mapping[str, Fault] = {
    "kill-sqlite": kills.kill_sqlite,
    "kill-postgres": kills.kill_postgres,
    "kill-shared-sqlite": kills.kill_shared_sqlite,
}
STRIKES: Mapping[str, Fault] = {
    "restart-postgres": servers.restart_postgres,
    "cut-connections": servers.cut_connections,
    "full-disk": disks.full_disk,
    "full-disk-postgres": disks.full_disk_postgres,
    "read-only-disk": disks.read_only_disk,
    "clock-forward": clocks.clock_forward,
    "clock-back": clocks.clock_back,
}
FAULTS: Mapping[str, Fault] = {**KILLS, **STRIKES}
SHARES = {"kill-sqlite": 0.6, "kill-postgres": 0.22, "kill-shared-sqlite": 0.18}
"""Of all kills, those of each fault."""

RUNS = 2
"""Databases that are begun anew in the long form, each killed while it is made."""

STRIKES_EACH = 6
MINUTES = 30
"""The longest that one run of a fault may take."""


def effort_for(name: str, kills: int, *, short: bool) -> Effort:
    """Return how much of the fault there is in a whole run with so many kills over all faults."""
    if name in SHARES:
        return Effort(kills=max(4, round(kills * SHARES[name])), strikes=0, runs=1 if short else RUNS)
    return Effort(kills=0, strikes=1 if short else STRIKES_EACH)


def play(name: str, effort: Effort) -> Row:
    """Play every run of one fault, each in a directory of its own that is gone afterwards."""
    row = Row(fault=name)
    for number in range(effort.runs):
        some = replace(effort, kills=effort.kills // effort.runs, seed=effort.seed + number)
        with (
            tempfile.TemporaryDirectory(prefix="boomerang-faults-") as home,
            Workspace(home=Path(home), quiet=True) as workspace,
        ):
            try:
                row.audits.append(anyio.run(_bounded, FAULTS[name], workspace, some))
            except Impossible as reason:
                return Row(fault=name, skipped=str(reason))
            except Exception as error:  # noqa: BLE001 - the other runs and faults are told of all the same
                row.broken.append(f"run {number + 1} broke off: {_innermost(error)!r}")
    return replace(row, fault=row.audits[0].fault) if row.audits else row


def _innermost(error: BaseException) -> BaseException:
    return _innermost(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _bounded(fault: Fault, workspace: Workspace, effort: Effort) -> Audit:
    with anyio.fail_after(MINUTES * 60):
        return await fault(workspace, effort)
