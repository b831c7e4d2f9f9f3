"""A clock that is put back is noticed, and nothing else is taken for it."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from service.domain.errors import StoreUnavailable
from service.runtime.clock_jump import ClockJumpDetector
from tests.support.task_loop import HOUR, LEASE, START, MovedClock


@dataclass
class Recalled:
    """A store that notes what is recalled, and may be unavailable."""

    calls: list[tuple[datetime, datetime]] = field(default_factory=list)
    broken: bool = False

    async def repair(self, *, now: datetime, until: datetime) -> int:
        """Note it."""
        if self.broken:
            raise StoreUnavailable("locked")
        self.calls.append((now, until))
        return 3


@pytest.mark.parametrize(
    ("moved", "slept", "noticed"),
    [
        (-HOUR, 0.0, True),
        (timedelta(), HOUR.total_seconds(), True),
        (HOUR, 0.0, False),
        (HOUR, HOUR.total_seconds(), False),
        (timedelta(seconds=-20), 0.0, False),
    ],
)
async def test_only_a_clock_that_falls_behind_is_noticed(
    moved: timedelta, slept: float, noticed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is how far the clock moved while the event loop's own time went on; each jump is told once."""
    clock, store = MovedClock(), Recalled()
    watch = ClockJumpDetector(store, clock=clock, lease=LEASE)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await watch.check() == 0
    clock.move(moved)
    monkeypatch.setattr(loop, "time", lambda: began + slept, raising=False)
    assert await watch.check() == (3 if noticed else 0)
    assert await watch.check() == 0
    assert store.calls == [(START + moved, START + moved + LEASE)] * noticed


async def test_a_jump_that_could_not_be_dealt_with_is_seen_again() -> None:
    """While the store is unavailable nothing is recalled, and nothing forgotten."""
    clock, store = MovedClock(), Recalled(broken=True)
    watch = ClockJumpDetector(store, clock=clock, lease=LEASE)
    await watch.check()
    clock.move(-HOUR)
    with pytest.raises(StoreUnavailable):
        await watch.check()
    store.broken = False
    assert await watch.check() == 3
