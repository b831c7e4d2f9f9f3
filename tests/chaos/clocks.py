"""A clock that jumps an hour, forward or back, under load."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.environment import SETTLED, service, sqlite
from tests.acceptance.processes import Workspace, until
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Environment, open_environment
from tests.chaos.fleet import CLOCKED, process_slot

HOUR = 3600.0


async def clock_forward(workspace: Workspace, effort: Effort) -> Audit:
    """Move the clock an hour forward several times: leases, doubts and retries are overdue immediately."""
    async with _shifted_clock(workspace, "clock jumps an hour forward") as (environment, clock):
        for _ in range(effort.injections):
            clock.jump(HOUR)
            await _wait_for_progress(environment)
        environment.fleet.injected["jumps"] += effort.injections
        return await environment.audit()


async def clock_back(workspace: Workspace, effort: Effort) -> Audit:
    """Move the clock an hour back several times, and right at the end: doubts last while the clock is wrong."""
    async with _shifted_clock(workspace, "clock jumps an hour back, and right again") as (environment, clock):
        for _ in range(effort.injections):
            running = list(environment.load.tasks.values())
            clock.jump(-HOUR)
            await _wait_for_progress(environment)
            await _wait_until_settled(environment, running)
        clock.jump(HOUR * effort.injections)
        environment.fleet.injected["jumps"] += effort.injections + 1
        return await environment.audit()


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The file with the error of the service's clock, in seconds."""

    file: Path

    def jump(self, seconds: float) -> None:
        """Move the clock forward, or back by a negative number; the file is replaced in one step."""
        new = self.file.with_suffix(".new")
        new.write_text(str(float(self.file.read_text() if self.file.exists() else 0) + seconds))
        new.replace(self.file)


@asynccontextmanager
async def _shifted_clock(workspace: Workspace, fault: str) -> AsyncIterator[tuple[Environment, Clock]]:
    """Yield an environment of one ready process on its own clock, under load."""
    clock = Clock(file=workspace.home / "clock")
    clock.jump(0)
    only = process_slot("all")
    async with open_environment(
        fault, workspace, sqlite(workspace), [only], command=CLOCKED, TASK_DEADLINE="48h"
    ) as environment:
        environment.fleet.env = {**environment.fleet.env, "BOOMERANG_TEST_CLOCK": str(clock.file)}
        await environment.fleet.started()
        await _wait_for_progress(environment)
        yield environment, clock


async def _wait_for_progress(environment: Environment) -> None:
    """Wait until new tasks, callbacks and webhooks have arrived."""
    received = len(environment.receiver.ids)
    await environment.wait_for_progress(8)
    await until(lambda: len(environment.receiver.ids) >= received + 8, what="more webhooks")


async def _wait_until_settled(environment: Environment, task_ids: list[str]) -> None:
    """Wait for the end of these tasks, though the clock is wrong; a task in doubt depends on the clock and may wait."""
    slots = environment.fleet.slots
    async with service(environment.fleet.child(slots[0])) as at:

        async def ended() -> bool:
            unsettled = {task["id"] for task in await at.tasks() if task["status"] not in SETTLED | {"in_doubt"}}
            return not unsettled & set(task_ids)

        await until(ended, what="the end of the running tasks", seconds=45, pause=0.5)
