"""A clock that jumps an hour, forward or back, while tasks, callbacks and deliveries are under way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.environment import SETTLED, service, sqlite
from tests.acceptance.processes import Workspace, until
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Stage, stage
from tests.chaos.fleet import CLOCKED, place

HOUR = 3600.0


async def clock_forward(workspace: Workspace, effort: Effort) -> Audit:
    """Put the clock an hour on, again and again: leases, doubts and retries seem to be out of date at once."""
    async with _clocked(workspace, "clock jumps an hour forward") as (play, clock):
        for _ in range(effort.strikes):
            clock.jump(HOUR)
            await _goes_on(play)
        play.fleet.struck["jumps"] += effort.strikes
        return await play.audit()


async def clock_back(workspace: Workspace, effort: Effort) -> Audit:
    """Put the clock an hour back, again and again, and right in the end: doubts last as long as the clock is wrong."""
    async with _clocked(workspace, "clock jumps an hour back, and right again") as (play, clock):
        for _ in range(effort.strikes):
            under_way = list(play.load.tasks.values())
            clock.jump(-HOUR)
            await _goes_on(play)
            await _come_to_an_end(play, under_way)
        clock.jump(HOUR * effort.strikes)
        play.fleet.struck["jumps"] += effort.strikes + 1
        return await play.audit()


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The file that says by how many seconds the service's clock is wrong."""

    file: Path

    def jump(self, seconds: float) -> None:
        """Put the clock on, or back by less than none; no reader ever sees half a number."""
        new = self.file.with_suffix(".new")
        new.write_text(str(float(self.file.read_text() if self.file.exists() else 0) + seconds))
        new.replace(self.file)


@asynccontextmanager
async def _clocked(workspace: Workspace, fault: str) -> AsyncIterator[tuple[Stage, Clock]]:
    """Set the stage with one process on a clock of its own, under load and ready."""
    clock = Clock(file=workspace.home / "clock")
    clock.jump(0)
    only = place("all")
    async with stage(fault, workspace, sqlite(workspace), [only], command=CLOCKED, TASK_DEADLINE="48h") as play:
        play.fleet.env = {**play.fleet.env, "BOOMERANG_TEST_CLOCK": str(clock.file)}
        await play.fleet.started()
        await _goes_on(play)
        yield play, clock


async def _goes_on(play: Stage) -> None:
    """Wait until new tasks, callbacks and webhooks came after this moment."""
    received = len(play.receiver.ids)
    await play.flowing(8)
    await until(lambda: len(play.receiver.ids) >= received + 8, what="more webhooks")


async def _come_to_an_end(play: Stage, task_ids: list[str]) -> None:
    """Wait for the end of these tasks, though the clock is wrong; a doubt is given up by the clock alone."""
    places = play.fleet.places
    async with service(play.fleet.child(places[0])) as at:

        async def ended() -> bool:
            open_ones = {task["id"] for task in await at.tasks() if task["status"] not in SETTLED | {"in_doubt"}}
            return not open_ones & set(task_ids)

        await until(ended, what="the end of what was under way", seconds=45, pause=0.5)
