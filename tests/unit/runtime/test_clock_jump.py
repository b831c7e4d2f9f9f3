"""A clock that moves backwards is detected, and nothing else is mistaken for that."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from service.domain.errors import StoreUnavailable
from service.runtime.clock_jump import DOUBTED_FOR, ClockJumpDetector
from tests.support.task_loop import HOUR, LEASE, START, MovedClock, open_loop
from tests.support.worker_builder import build_worker


@dataclass
class RepairLog:
    """A store that records its repairs and can be unavailable."""

    calls: list[tuple[datetime, datetime]] = field(default_factory=list)
    broken: bool = False

    async def repair(self, *, now: datetime, until: datetime) -> int:
        """Record the call."""
        if self.broken:
            raise StoreUnavailable("locked")
        self.calls.append((now, until))
        return 3


@pytest.mark.parametrize(
    ("moved", "slept", "detected"),
    [
        (-HOUR, 0.0, True),
        (timedelta(), HOUR.total_seconds(), True),
        (HOUR, 0.0, False),
        (HOUR, HOUR.total_seconds(), False),
        (timedelta(seconds=-20), 0.0, False),
    ],
)
async def test_only_a_backward_jump_is_detected(
    moved: timedelta, slept: float, detected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is compared with the time of the event loop; each jump is detected once."""
    clock, store = MovedClock(), RepairLog()
    detector = ClockJumpDetector(store, clock=clock, lease=LEASE)
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    assert await detector.check() == 0
    clock.move(moved)
    monkeypatch.setattr(loop, "time", lambda: started_at + slept, raising=False)
    assert await detector.check() == (3 if detected else 0)
    assert await detector.check() == 0
    assert store.calls == [(START + moved, START + moved + LEASE)] * detected


async def test_failed_repair_is_repeated() -> None:
    """While the store is unavailable nothing is repaired, and the next check detects the same jump."""
    clock, store = MovedClock(), RepairLog(broken=True)
    detector = ClockJumpDetector(store, clock=clock, lease=LEASE)
    await detector.check()
    clock.move(-HOUR)
    with pytest.raises(StoreUnavailable):
        await detector.check()
    store.broken = False
    assert await detector.check() == 3


async def test_nothing_is_deleted_for_its_age_after_a_jump_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is a year ahead would delete all callbacks and inputs; an hour later it counts as right."""
    async with open_loop(tmp_path) as loop:
        worker, pruned = build_worker(loop, []), list[datetime]()

        async def prune() -> int:
            pruned.append(loop.clock.now())
            return 0

        monkeypatch.setattr(type(worker.poller), "prune", lambda _self: prune())
        [job] = [each for each in worker.jobs() if each.name == "prune"]
        await job.run()
        loop.clock.move(24 * 365 * HOUR)
        await job.run()
        assert len(pruned) == 1
        event_loop = asyncio.get_running_loop()
        later = event_loop.time() + DOUBTED_FOR
        monkeypatch.setattr(event_loop, "time", lambda: later, raising=False)
        loop.clock.move(HOUR)
        await job.run()
        assert pruned[1:] == [loop.clock.now()]
