"""Work in hand: bounded, its leases kept alive, and cut off in order."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from service.concurrency.lease_pool import LeasePool
from tests.support.delivery_builders import NOW, MovedClock
from tests.support.task_loop import TIMEOUT
from tests.support.wait_until_idle import ended

SHORT = timedelta(milliseconds=3)
HOUR = timedelta(hours=1)


class Leases:
    """Notes what is renewed, and may be broken."""

    def __init__(self, *errors: Exception) -> None:
        self.renewed: list[dict[str, int]] = []
        self.errors = list(errors)
        self.lost: set[str] = set()
        self.lease = SHORT
        self.news = asyncio.Event()

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Record a renewal; return the keys that are held, all but the `lost` ones."""
        assert until == NOW + self.lease
        self.renewed.append(dict(claims))
        self.news.set()
        if self.errors:
            raise self.errors.pop(0)
        return set(claims) - self.lost

    async def next(self) -> dict[str, int]:
        """Return what the next renewal holds."""
        self.news.clear()
        async with asyncio.timeout(TIMEOUT):
            await self.news.wait()
        return self.renewed[-1]


def _lease_pool(
    leases: Leases, *, lease: timedelta = SHORT, clock: MovedClock | None = None, **options: Any
) -> tuple[LeasePool[str], list[int]]:
    freed: list[int] = []
    leases.lease = lease
    pool: LeasePool[str] = LeasePool(
        store=leases, clock=clock or MovedClock(NOW), lease=lease, limit=2, on_end=lambda: freed.append(1), **options
    )
    return pool, freed


async def test_hands_are_counted_and_freed() -> None:
    """What is in hand takes a place until it ends, and its end is told."""
    lease_pool, freed = _lease_pool(Leases(), lease=HOUR)
    gate = asyncio.Event()
    lease_pool.start("a", 1, _wait(gate), leased_until=NOW + SHORT)
    assert lease_pool.free_slots == 1
    gate.set()
    await ended(lease_pool)
    assert (lease_pool.free_slots, freed) == (2, [1])
    await lease_pool.drain(0)


async def test_leases_are_renewed_while_work_is_in_hand() -> None:
    """Every third of a lease what is held is prolonged, under its fence, also after a renewal that failed."""
    leases = Leases(RuntimeError("locked"))
    lease_pool, _ = _lease_pool(leases)
    gate = asyncio.Event()
    lease_pool.start("a", 7, _wait(gate), leased_until=NOW + SHORT)
    assert await leases.next() == {"a": 7}
    assert await leases.next() == {"a": 7}
    gate.set()
    await lease_pool.drain(1)


async def test_leases_are_renewed_again_after_a_drain() -> None:
    """Hands that were emptied by force keep the leases of what they take up later."""
    leases = Leases()
    lease_pool, _ = _lease_pool(leases)
    lease_pool.start("a", 1, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    await lease_pool.drain(0)
    lease_pool.start("b", 2, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    assert await leases.next() == {"b": 2}
    await lease_pool.drain(0)


async def test_drain_cuts_off_and_tells_what_was_held() -> None:
    """What does not end in time is cancelled, to its end, and its leases are returned to be given back."""
    lease_pool, _ = _lease_pool(Leases(), lease=HOUR)
    ended: list[str] = []
    lease_pool.start("slow", 3, _until_cancelled(ended), leased_until=NOW + SHORT)
    lease_pool.start("quick", 4, _nothing(), leased_until=NOW + SHORT)
    await asyncio.sleep(0)
    assert await lease_pool.drain(0.01) == {"slow": 3}
    assert ended == ["cancelled"]


async def test_emptied_hands_take_up_nothing_more() -> None:
    """From the beginning of a drain nothing is to be claimed for them, though they have room."""
    lease_pool, _ = _lease_pool(Leases(), lease=HOUR)
    gate = asyncio.Event()
    lease_pool.start("a", 1, _wait(gate), leased_until=NOW + SHORT)
    draining = asyncio.create_task(lease_pool.drain(TIMEOUT))
    await asyncio.sleep(0)
    assert lease_pool.free_slots == 0
    gate.set()
    assert await draining == {}
    assert lease_pool.free_slots == 0


async def test_work_that_breaks_off_frees_its_hand() -> None:
    """An error ends one piece of work and nothing else."""
    lease_pool, freed = _lease_pool(Leases(), lease=HOUR)
    lease_pool.start("a", 1, _broken(), leased_until=NOW + SHORT)
    await ended(lease_pool)
    assert (lease_pool.free_slots, freed) == (2, [1])
    await lease_pool.drain(0)


async def test_row_taken_twice_keeps_the_newer_lease() -> None:
    """Where a lost lease is claimed again by the same process, the end of the older work does not drop the newer."""
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
    clock = MovedClock(NOW)
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
    clock = MovedClock(NOW)
    lease_pool, _ = _lease_pool(Leases(RuntimeError("locked")), lease=HOUR, clock=clock)
    lease_pool.start("a", 1, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    await lease_pool.renew()
    clock.at += SHORT
    assert not lease_pool.lease_valid("a", 1)
    await lease_pool.drain(0)


async def test_lost_leases_are_reported_by_key_and_fence() -> None:
    """A lease that the store does not hold, or only for a newer claim of this process, is lost and not extended."""
    lost: list[tuple[str, int]] = []
    leases, clock = Leases(), MovedClock(NOW)
    lease_pool, _ = _lease_pool(leases, lease=HOUR, clock=clock, on_lost=lambda key, fence: lost.append((key, fence)))
    leases.lost.add("b")
    for key, fence in (("a", 1), ("a", 2), ("b", 5)):
        lease_pool.start(key, fence, _wait(asyncio.Event()), leased_until=NOW + SHORT)
    await lease_pool.renew()
    clock.at += SHORT
    assert (leases.renewed, lost) == ([{"a": 2, "b": 5}], [("a", 1), ("b", 5)])
    assert [lease_pool.lease_valid(*lease) for lease in (("a", 1), ("a", 2), ("b", 5))] == [False, True, False]
    await lease_pool.drain(0)


async def test_lease_that_is_not_to_be_renewed_is_neither_renewed_nor_lost() -> None:
    """A delivery whose handler has ended is left to the store of its result."""
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
    raise RuntimeError("a fault of ours")


async def _until_cancelled(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append("cancelled")
