"""The lease pool: limited tasks, renewed leases, and an orderly drain."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from service.concurrency.lease_pool import LeasePool
from tests.support.delivery_builders import NOW, TIMEOUT, ManualClock
from tests.support.wait_until_idle import ended

SHORT = timedelta(milliseconds=3)
HOUR = timedelta(hours=1)


class Leases:
    """Records renewals; the first ones raise `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.renewed: list[dict[str, int]] = []
        self.errors = list(errors)
        self.lost: set[str] = set()
        self.lease = SHORT
        self.renewal = asyncio.Event()

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Record a renewal; return the keys that are held, all but the `lost` ones."""
        assert until == NOW + self.lease
        self.renewed.append(dict(claims))
        self.renewal.set()
        if self.errors:
            raise self.errors.pop(0)
        return set(claims) - self.lost

    async def next(self) -> dict[str, int]:
        """Return the leases of the next renewal."""
        self.renewal.clear()
        async with asyncio.timeout(TIMEOUT):
            await self.renewal.wait()
        return self.renewed[-1]


def _lease_pool(
    leases: Leases, *, lease: timedelta = SHORT, clock: ManualClock | None = None, **options: Any
) -> tuple[LeasePool[str], list[int]]:
    freed: list[int] = []
    leases.lease = lease
    pool: LeasePool[str] = LeasePool(
        store=leases, clock=clock or ManualClock(NOW), lease=lease, limit=2, on_end=lambda: freed.append(1), **options
    )
    return pool, freed


async def test_running_tasks_take_slots() -> None:
    """A task takes a slot until it ends, and its end is reported."""
    lease_pool, freed = _lease_pool(Leases(), lease=HOUR)
    gate = asyncio.Event()
    lease_pool.start("a", 1, _wait(gate), leased_until=NOW + SHORT)
    assert lease_pool.free_slots == 1
    gate.set()
    await ended(lease_pool)
    assert (lease_pool.free_slots, freed) == (2, [1])
    await lease_pool.drain(0)


async def test_leases_are_renewed_while_tasks_run() -> None:
    """Every third of a lease it is renewed under its fence, also after a failed renewal."""
    leases = Leases(RuntimeError("locked"))
    lease_pool, _ = _lease_pool(leases)
    gate = asyncio.Event()
    lease_pool.start("a", 7, _wait(gate), leased_until=NOW + SHORT)
    assert await leases.next() == {"a": 7}
    assert await leases.next() == {"a": 7}
    gate.set()
    await lease_pool.drain(1)


async def test_leases_are_renewed_again_after_a_drain() -> None:
    """A task that starts after a drain has its lease renewed."""
    leases = Leases()
    lease_pool, _ = _lease_pool(leases)
    lease_pool.start("a", 1, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    await lease_pool.drain(0)
    lease_pool.start("b", 2, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    assert await leases.next() == {"b": 2}
    await lease_pool.drain(0)


async def test_drain_cancels_and_returns_the_leases() -> None:
    """A task that does not end in time is cancelled and awaited, and its lease is returned for its release."""
    lease_pool, _ = _lease_pool(Leases(), lease=HOUR)
    ended: list[str] = []
    lease_pool.start("slow", 3, _until_cancelled(ended), leased_until=NOW + SHORT)
    lease_pool.start("quick", 4, _nothing(), leased_until=NOW + SHORT)
    await asyncio.sleep(0)
    assert await lease_pool.drain(0.01) == {"slow": 3}
    assert ended == ["cancelled"]


async def test_draining_pool_offers_no_slots() -> None:
    """From the beginning of a drain no slot is free."""
    lease_pool, _ = _lease_pool(Leases(), lease=HOUR)
    gate = asyncio.Event()
    lease_pool.start("a", 1, _wait(gate), leased_until=NOW + SHORT)
    draining = asyncio.create_task(lease_pool.drain(TIMEOUT))
    await asyncio.sleep(0)
    assert lease_pool.free_slots == 0
    gate.set()
    assert await draining == {}
    assert lease_pool.free_slots == 0


async def test_failed_task_frees_its_slot() -> None:
    """An error ends one task and nothing else."""
    lease_pool, freed = _lease_pool(Leases(), lease=HOUR)
    lease_pool.start("a", 1, _broken(), leased_until=NOW + SHORT)
    await ended(lease_pool)
    assert (lease_pool.free_slots, freed) == (2, [1])
    await lease_pool.drain(0)


async def test_row_claimed_twice_keeps_the_newer_lease() -> None:
    """If a process claims a row again after a lost lease, the end of the older task does not drop the newer lease."""
    leases = Leases()
    lease_pool, _ = _lease_pool(leases)
    older, newer = asyncio.Event(), asyncio.Event()
    lease_pool.start("a", 1, _wait(older), leased_until=NOW + SHORT)
    lease_pool.start("a", 2, _wait(newer), leased_until=NOW + SHORT)
    older.set()
    assert await leases.next() == {"a": 2}
    assert await leases.next() == {"a": 2}
    assert await lease_pool.drain(0) == {"a": 2}


async def test_lease_is_valid_until_its_end_and_longer_once_renewed() -> None:
    """A renewal extends the lease under its own fence; an unknown lease is not valid."""
    clock = ManualClock(NOW)
    lease_pool, _ = _lease_pool(Leases(), lease=HOUR, clock=clock)
    lease_pool.start("a", 2, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    assert [lease_pool.lease_valid("a", fence) for fence in (1, 2)] == [False, True]
    await lease_pool.renew()
    clock.at += HOUR - SHORT
    assert lease_pool.lease_valid("a", 2)
    clock.at += SHORT
    assert not lease_pool.lease_valid("a", 2)
    await lease_pool.drain(0)


async def test_failed_renewal_extends_no_lease() -> None:
    """Only what the store has renewed counts."""
    clock = ManualClock(NOW)
    lease_pool, _ = _lease_pool(Leases(RuntimeError("locked")), lease=HOUR, clock=clock)
    lease_pool.start("a", 1, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    await lease_pool.renew()
    clock.at += SHORT
    assert not lease_pool.lease_valid("a", 1)
    await lease_pool.drain(0)


async def test_lost_leases_are_reported_by_key_and_fence() -> None:
    """A lease that the store does not hold, or only for a newer claim of this process, is lost and not extended."""
    lost: list[tuple[str, int]] = []
    leases, clock = Leases(), ManualClock(NOW)
    lease_pool, _ = _lease_pool(leases, lease=HOUR, clock=clock, on_lost=lambda key, fence: lost.append((key, fence)))
    leases.lost.add("b")
    for key, fence in (("a", 1), ("a", 2), ("b", 5)):
        lease_pool.start(key, fence, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    await lease_pool.renew()
    clock.at += SHORT
    assert (leases.renewed, lost) == ([{"a": 2, "b": 5}], [("a", 1), ("b", 5)])
    assert [lease_pool.lease_valid(*lease) for lease in (("a", 1), ("a", 2), ("b", 5))] == [False, True, False]
    await lease_pool.drain(0)


async def test_excluded_lease_is_neither_renewed_nor_lost() -> None:
    """A delivery whose handler has ended only waits for its result to be stored."""
    lost: list[tuple[str, int]] = []
    leases = Leases()
    lease_pool, _ = _lease_pool(leases, lease=HOUR, on_lost=lambda key, fence: lost.append((key, fence)))
    lease_pool.start("a", 1, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    lease_pool.stop_renewing("a", 1)
    await lease_pool.renew()
    assert (leases.renewed, lost) == ([], [])
    await lease_pool.drain(0)


async def test_failing_upkeep_ends_no_renewals() -> None:
    """An error in what is called after each renewal is logged, and the next renewal follows."""

    async def fail() -> None:
        raise ZeroDivisionError

    leases = Leases()
    lease_pool, _ = _lease_pool(leases, upkeep=fail)
    lease_pool.start("a", 1, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    assert [await leases.next(), await leases.next()] == [{"a": 1}, {"a": 1}]
    await lease_pool.drain(0)


async def _wait(gate: asyncio.Event) -> None:
    await gate.wait()


async def _nothing() -> None:
    return


async def _broken() -> None:
    raise RuntimeError("an internal error")


async def _until_cancelled(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append("cancelled")
