"""The limit of bytes held at once: first come, first served, and no leaks."""

import asyncio

import anyio
import pytest

from service.concurrency.fair_semaphore import FairSemaphore


async def take(semaphore: FairSemaphore, size: int, seen: list[int], hold: anyio.Event) -> None:
    """Hold `size` until `hold` is set, and append it to `seen` once it is held."""
    async with semaphore.hold(size, seconds=60):
        seen.append(size)
        await hold.wait()


async def test_bytes_are_granted_first_come_first_served() -> None:
    """A small request does not overtake a large one that waits before it."""
    semaphore, seen, hold = FairSemaphore(10), list[int](), anyio.Event()
    async with anyio.create_task_group() as group:
        for size in (6, 8, 1):
            group.start_soon(take, semaphore, size, seen, hold)
            await anyio.wait_all_tasks_blocked()
        assert seen == [6]
        hold.set()
    assert seen == [6, 8, 1]


async def test_cancelled_request_lets_the_next_one_through() -> None:
    """A cancelled request at the head of the queue lets the next one through, and leaks nothing."""
    semaphore, seen, hold = FairSemaphore(10), list[int](), anyio.Event()
    async with anyio.create_task_group() as group, anyio.create_task_group() as cancelled:
        group.start_soon(take, semaphore, 6, seen, hold)
        await anyio.wait_all_tasks_blocked()
        cancelled.start_soon(take, semaphore, 8, seen, hold)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(take, semaphore, 4, seen, hold)
        await anyio.wait_all_tasks_blocked()
        assert seen == [6]
        cancelled.cancel_scope.cancel()
        group.start_soon(_later, hold)
    assert seen == [6, 4]
    with anyio.fail_after(1):
        async with semaphore.hold(10, seconds=1):
            seen.append(10)
    assert seen[-1] == 10


async def _later(hold: anyio.Event) -> None:
    await anyio.wait_all_tasks_blocked()
    hold.set()


async def test_request_above_the_total_gets_all_of_it() -> None:
    """A body larger than the total is held alone, not refused."""
    async with FairSemaphore(10).hold(99, seconds=1):
        pass


async def test_error_in_the_block_releases_the_bytes() -> None:
    """After any error in the block its bytes are free again."""
    semaphore = FairSemaphore(10)

    with pytest.raises(RuntimeError, match="broken"):
        await _broken(semaphore)
    async with semaphore.hold(10, seconds=1):
        pass


async def _broken(semaphore: FairSemaphore) -> None:
    async with semaphore.hold(10, seconds=1):
        raise RuntimeError("broken")


async def test_request_cancelled_in_the_moment_of_its_turn_leaks_nothing() -> None:
    """Bytes that were granted to a request which is cancelled before it continues are free for the next one."""
    semaphore, seen, hold = FairSemaphore(10), list[int](), anyio.Event()
    async with semaphore.hold(10):
        waiting = asyncio.create_task(take(semaphore, 10, seen, hold))
        await anyio.wait_all_tasks_blocked()
    waiting.cancel()  # it was granted the bytes at the end of the block, and has not run since
    await asyncio.gather(waiting, return_exceptions=True)
    async with semaphore.hold(10, seconds=1):
        assert seen == []
