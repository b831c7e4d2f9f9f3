"""Work in hand: bounded, its leases kept alive, and cut off in order."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from service.concurrency.lease_pool import LeasePool
from tests.support.task_loop import PATIENCE
from tests.support.wait_until_idle import ended

SHORT = timedelta(milliseconds=3)


class Leases:
    """Notes what is renewed, and may be broken."""

    def __init__(self, *errors: Exception) -> None:
        self.renewed: list[dict[str, int]] = []
        self.errors = list(errors)
        self.news = asyncio.Event()

    async def renew(self, held: Mapping[str, int]) -> set[str]:
        """Note a renewal."""
        self.renewed.append(dict(held))
        self.news.set()
        if self.errors:
            raise self.errors.pop(0)
        return set(held)

    async def next(self) -> dict[str, int]:
        """Return what the next renewal holds."""
        self.news.clear()
        async with asyncio.timeout(PATIENCE):
            await self.news.wait()
        return self.renewed[-1]


def _lease_pool(leases: Leases, *, most: int = 2, lease: timedelta = SHORT) -> tuple[LeasePool[str], list[int]]:
    freed: list[int] = []
    return LeasePool(most=most, lease=lease, renew=leases.renew, freed=lambda: freed.append(1)), freed


async def test_hands_are_counted_and_freed() -> None:
    """What is in hand takes a place until it ends, and its end is told."""
    lease_pool, freed = _lease_pool(Leases(), lease=timedelta(hours=1))
    gate = asyncio.Event()
    lease_pool.start("a", 1, _wait(gate))
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
    lease_pool.start("a", 7, _wait(gate))
    assert await leases.next() == {"a": 7}
    assert await leases.next() == {"a": 7}
    gate.set()
    await lease_pool.drain(1)


async def test_leases_are_renewed_again_after_a_drain() -> None:
    """Hands that were emptied by force keep the leases of what they take up later."""
    leases = Leases()
    lease_pool, _ = _lease_pool(leases)
    lease_pool.start("a", 1, _wait(asyncio.Event()))
    await lease_pool.drain(0)
    lease_pool.start("b", 2, _wait(asyncio.Event()))
    assert await leases.next() == {"b": 2}
    await lease_pool.drain(0)


async def test_drain_cuts_off_and_tells_what_was_held() -> None:
    """What does not end in time is cancelled, to its end, and its leases are returned to be given back."""
    lease_pool, _ = _lease_pool(Leases(), lease=timedelta(hours=1))
    ended: list[str] = []
    lease_pool.start("slow", 3, _until_cancelled(ended))
    lease_pool.start("quick", 4, _nothing())
    await asyncio.sleep(0)
    assert await lease_pool.drain(0.01) == {"slow": 3}
    assert ended == ["cancelled"]


async def test_emptied_hands_take_up_nothing_more() -> None:
    """From the beginning of a drain nothing is to be claimed for them, though they have room."""
    lease_pool, _ = _lease_pool(Leases(), lease=timedelta(hours=1))
    gate = asyncio.Event()
    lease_pool.start("a", 1, _wait(gate))
    draining = asyncio.create_task(lease_pool.drain(PATIENCE))
    await asyncio.sleep(0)
    assert lease_pool.free_slots == 0
    gate.set()
    assert await draining == {}
    assert lease_pool.free_slots == 0


async def test_work_that_breaks_off_frees_its_hand() -> None:
    """An error ends one piece of work and nothing else."""
    lease_pool, freed = _lease_pool(Leases(), lease=timedelta(hours=1))
    lease_pool.start("a", 1, _broken())
    await ended(lease_pool)
    assert (lease_pool.free_slots, freed) == (2, [1])
    await lease_pool.drain(0)


async def test_row_taken_twice_keeps_the_newer_lease() -> None:
    """Where a lost lease is claimed again by the same process, the end of the older work does not drop the newer."""
    leases = Leases()
    lease_pool, _ = _lease_pool(leases)
    older, newer = asyncio.Event(), asyncio.Event()
    lease_pool.start("a", 1, _wait(older))
    lease_pool.start("a", 2, _wait(newer))
    older.set()
    assert await leases.next() == {"a": 2}
    assert await leases.next() == {"a": 2}
    assert await lease_pool.drain(0) == {"a": 2}


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
