"""The bound on the bytes in hand: in the order of asking, and nothing leaks."""

import anyio
import pytest

from service.concurrency.byte_semaphore import ByteSemaphore


async def take(budget: ByteSemaphore, size: int, seen: list[int], hold: anyio.Event) -> None:
    """Hold `size` until `hold` is set, and write down that it was got."""
    async with budget.hold(size, seconds=60):
        seen.append(size)
        await hold.wait()


async def test_room_is_given_first_come_first_served() -> None:
    """A small claim does not overtake a large one that waits before it."""
    budget, seen, hold = ByteSemaphore(10), list[int](), anyio.Event()
    async with anyio.create_task_group() as group:
        for size in (6, 8, 1):
            group.start_soon(take, budget, size, seen, hold)
            await anyio.wait_all_tasks_blocked()
        assert seen == [6]
        hold.set()
    assert seen == [6, 8, 1]


async def test_one_who_gives_up_waiting_makes_way() -> None:
    """A cancelled claim at the head of the queue lets the next one through, and leaks nothing."""
    budget, seen, hold = ByteSemaphore(10), list[int](), anyio.Event()
    async with anyio.create_task_group() as group, anyio.create_task_group() as impatient:
        group.start_soon(take, budget, 6, seen, hold)
        await anyio.wait_all_tasks_blocked()
        impatient.start_soon(take, budget, 8, seen, hold)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(take, budget, 4, seen, hold)
        await anyio.wait_all_tasks_blocked()
        assert seen == [6]
        impatient.cancel_scope.cancel()
        group.start_soon(_later, hold)
    assert seen == [6, 4]
    with anyio.fail_after(1):
        async with budget.hold(10, seconds=1):
            seen.append(10)
    assert seen[-1] == 10


async def _later(hold: anyio.Event) -> None:
    await anyio.wait_all_tasks_blocked()
    hold.set()


async def test_a_claim_beyond_the_total_gets_all_of_it() -> None:
    """A body that may be larger than the bound is served alone, not never."""
    async with ByteSemaphore(10).hold(99, seconds=1):
        pass


async def test_an_error_in_the_block_gives_the_room_back() -> None:
    """Whatever happens to a body, its bytes do not count any more afterwards."""
    budget = ByteSemaphore(10)

    with pytest.raises(RuntimeError, match="broken"):
        await _broken(budget)
    async with budget.hold(10, seconds=1):
        pass


async def _broken(budget: ByteSemaphore) -> None:
    async with budget.hold(10, seconds=1):
        raise RuntimeError("broken")
