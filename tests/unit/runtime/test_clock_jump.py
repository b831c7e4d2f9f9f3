"""A clock that moves: backwards, what waits becomes due; forwards, nothing ends or is deleted for its age."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from service.domain.errors import StoreUnavailable
from service.domain.task import Fact, Status, Task
from service.runtime.clock_jump import DOUBTED_FOR, ClockJumpDetector
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import HOUR, LEASE, START, Loop, MovedClock, open_loop
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
async def test_only_a_backward_jump_is_repaired(
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


async def _begin(loop: Loop, kind: str) -> Task:
    """Return a task that would end for its age."""
    if kind == "queued":
        return await loop.accept()
    if kind == "in doubt":
        return await loop.in_doubt()
    task = await loop.submitted()
    if kind == "unknown to the provider":
        loop.upstream.knows_ids = False
        await loop.call_back(vtrix_body("completed", "of-vidu", payload=loop.upstream.requests[0].payload))
        await loop.poll_due()
        return await loop.task(task.id)
    loop.upstream.set_fact("up1", Fact(status=Status.COMPLETED if kind == "without result" else Status.IN_PROGRESS))
    await loop.run_until(loop.clock.now() + timedelta(minutes=2), by=timedelta(seconds=10))
    return await loop.task(task.id)


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("queued", Status.EXPIRED),
        ("at the provider", Status.EXPIRED),
        ("in doubt", Status.EXPIRED),
        ("without result", Status.COMPLETED),
        ("unknown to the provider", Status.COMPLETED),
    ],
)
async def test_no_task_ends_for_its_age_after_a_jump_forward(
    kind: str, end: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end could not be taken back once the clock is set right; an hour later it counts as right."""
    async with open_loop(tmp_path) as loop:
        detector = ClockJumpDetector(loop.store.clock_jump_repair, clock=loop.clock, lease=LEASE)
        loop.planner.clock_doubted = detector.doubted
        task = await _begin(loop, kind)
        await detector.check()
        loop.clock.move(24 * 365 * HOUR)
        await loop.poll_due()
        assert (await loop.poll_due(), await loop.poll_due()) == (0, 0)
        assert (await loop.task(task.id)).status is task.status
        event_loop = asyncio.get_running_loop()
        later = event_loop.time() + DOUBTED_FOR
        monkeypatch.setattr(event_loop, "time", lambda: later, raising=False)
        loop.clock.move(HOUR)
        for _ in range(3):
            await loop.poll_due()
        assert (await loop.task(task.id)).status is end


async def test_clock_that_is_set_right_is_not_doubted_any_more() -> None:
    """Otherwise tasks would outlive their deadlines by an hour."""
    clock = MovedClock()
    detector = ClockJumpDetector(RepairLog(), clock=clock, lease=LEASE)
    assert not detector.doubted()
    clock.move(5 * HOUR)
    assert detector.doubted()
    clock.move(-5 * HOUR)
    await detector.check()
    assert not detector.doubted()


async def test_clock_of_a_machine_that_often_sleeps_is_not_always_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves forward at each awakening, and is right: what is old has an hour in which it ends, then one of doubt."""
    clock, loop = MovedClock(), asyncio.get_running_loop()
    detector = ClockJumpDetector(RepairLog(), clock=clock, lease=LEASE)
    awake, begin = timedelta(minutes=1), round(loop.time())
    doubted = []
    for number in range(180):
        monotonic = float(begin + number * awake.seconds)
        monkeypatch.setattr(loop, "time", partial(float, monotonic), raising=False)
        await detector.check()
        doubted.append(detector.doubted())
        clock.move(2 * HOUR + awake)
    assert doubted == [False, *[True] * 60, *[False] * 60, *[True] * 59]


@pytest.mark.parametrize(
    ("name", "part", "method"), [("prune", "poller", "prune"), ("endpoint_secrets", "resealing", "run")]
)
async def test_nothing_is_deleted_for_its_age_after_a_jump_forward(
    name: str, part: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is a year ahead would delete all callbacks and inputs, and secrets that a rotation has replaced.

    An hour later it counts as right.
    """
    async with open_loop(tmp_path) as loop:
        worker, deleted = build_worker(loop, []), list[datetime]()

        async def delete() -> int:
            deleted.append(loop.clock.now())
            return 0

        monkeypatch.setattr(type(getattr(worker, part)), method, lambda _self: delete())
        [job] = [each for each in worker.jobs() if each.name == name]
        await job.run()
        loop.clock.move(24 * 365 * HOUR)
        await job.run()
        assert len(deleted) == 1
        event_loop = asyncio.get_running_loop()
        later = event_loop.time() + DOUBTED_FOR
        monkeypatch.setattr(event_loop, "time", lambda: later, raising=False)
        loop.clock.move(HOUR)
        await job.run()
        assert deleted[1:] == [loop.clock.now()]
