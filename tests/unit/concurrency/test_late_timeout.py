"""Time limits of a process that was stopped: what arrived meanwhile counts."""

import asyncio
from typing import Any, cast

import pytest

from service.concurrency.late_timeout import GRACE, LATE, timeout_after
from tests.unit.sandbox.test_bench import MOVED, MovedLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def stop_process(seconds: float) -> None:
    """Let time pass without the process, as SIGSTOP does."""
    cast("MovedLoop", asyncio.get_running_loop())._skipping.skipped += seconds


async def test_the_limit_holds_to_the_moment() -> None:
    """A process that was not stopped raises TimeoutError in time."""
    with pytest.raises(TimeoutError):
        async with timeout_after(10):
            await asyncio.sleep(1000)
    assert now() == 10


async def test_what_ends_in_time_is_not_disturbed() -> None:
    """The limit ends with the block, and errors of the block pass."""
    async with timeout_after(10):
        await asyncio.sleep(9)
    with pytest.raises(ZeroDivisionError):
        async with timeout_after(10):
            raise ZeroDivisionError
    await asyncio.sleep(20)


async def test_an_answer_that_arrived_during_a_stop_is_taken() -> None:
    """The timer is late by more than LATE, and the answer is read some steps after it."""
    answer = asyncio.get_running_loop().create_future()

    async def stop_and_arrive() -> None:
        await asyncio.sleep(1)
        stop_process(3600)
        for _ in range(5):
            await asyncio.sleep(0)
        answer.set_result("paid")

    arriving = asyncio.create_task(stop_and_arrive())
    async with timeout_after(10):
        assert await answer == "paid"
    await arriving


async def test_without_an_answer_the_grace_is_short() -> None:
    """After a stop the block has GRACE seconds more."""
    asyncio.get_running_loop().call_later(1, stop_process, 10 + LATE)
    with pytest.raises(TimeoutError):
        async with timeout_after(10):
            await asyncio.sleep(1000)
    assert now() == pytest.approx(1 + 10 + LATE + GRACE)
