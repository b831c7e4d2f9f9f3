"""A clock that jumps an hour, forward or back, while tasks, callbacks and deliveries are under way."""

from pathlib import Path

import anyio

from tests.acceptance.processes import Town
from tests.acceptance.scene import sqlite
from tests.faults.audit import Audit
from tests.faults.fleet import CLOCKED, place
from tests.faults.stage import Effort, Stage, stage

HOUR = 3600.0


async def clock_forward(town: Town, effort: Effort) -> Audit:
    """Put the clock an hour on, again and again: leases, doubts and retries seem to be out of date at once."""
    return await _jumping(town, effort, "clock jumps an hour forward", [HOUR])


async def clock_back(town: Town, effort: Effort) -> Audit:
    """Put the clock an hour back, again and again: what was due is due in an hour, by the clock."""
    return await _jumping(town, effort, "clock jumps an hour back", [-HOUR])


async def clock_to_and_fro(town: Town, effort: Effort) -> Audit:
    """Put the clock an hour on and back by turns."""
    return await _jumping(town, effort, "clock jumps an hour forward and back", [HOUR, -HOUR])


async def _jumping(town: Town, effort: Effort, fault: str, jumps: list[float]) -> Audit:
    file = town.home / "clock"
    file.write_text("0")
    only = place("all")
    async with stage(fault, town, sqlite(town), [only], command=CLOCKED) as play:
        play.fleet.env = {**play.fleet.env, "BOOMERANG_TEST_CLOCK": str(file)}
        await play.fleet.started()
        for number in range(effort.strikes):
            await _flowing_for_a_while(play)
            _jump(file, jumps[number % len(jumps)])
            play.fleet.struck["jumps"] += 1
        await _flowing_for_a_while(play)
        return await play.audit()


async def _flowing_for_a_while(play: Stage) -> None:
    await play.flowing(8)
    await anyio.sleep(1)


def _jump(file: Path, seconds: float) -> None:
    now = float(file.read_text()) + seconds
    new = file.with_suffix(".new")
    new.write_text(str(now))
    new.replace(file)
