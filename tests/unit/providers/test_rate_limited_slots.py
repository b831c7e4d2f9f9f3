"""The bound on the bytes of large submissions in hand."""

import asyncio
from typing import Any

import pytest

from service.providers.rate_limited import RateLimitedClient
from tests.support.fake_rate_limit import FakeProvider, cancelled, rate_limited
from tests.unit.sandbox.test_bench import MOVED


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in moved time."""
    return MOVED


class Loader:
    """Holds room for a while, and notes how much is held at most."""

    def __init__(self, budget: RateLimitedClient) -> None:
        self.budget = budget
        self.held = 0
        self.most = 0
        self.order: list[int] = []

    async def load(self, size: int) -> None:
        """Hold `size` bytes for a second."""
        async with self.budget.hold_bytes(size):
            self.order.append(size)
            self.held += size
            self.most = max(self.most, self.held)
            await asyncio.sleep(1)
            self.held -= size


async def test_the_bytes_in_hand_are_bounded() -> None:
    """Loads share the room, in the order of asking, and never exceed it."""
    loader = Loader(rate_limited(FakeProvider(), large_bytes=100))
    sizes = [40, 40, 40, 90, 5, 5]
    await asyncio.gather(*(loader.load(size) for size in sizes))
    assert loader.order == sizes
    assert loader.most <= 100


async def test_one_that_is_larger_than_the_room_goes_alone() -> None:
    """A single load over the limit waits for the others, goes through alone, and is not starved by small ones."""
    loader = Loader(rate_limited(FakeProvider(), large_bytes=100))
    await asyncio.gather(*(loader.load(size) for size in [10, 150, 10]))
    assert loader.order == [10, 150, 10]
    assert loader.most == 150


@pytest.mark.parametrize("step", ["held", "waiting"])
async def test_a_cancelled_load_gives_its_room_back(step: str) -> None:
    """Room is free again when its holder, or who waits for it, is cancelled."""
    loader = Loader(rate_limited(FakeProvider(), large_bytes=100))
    holder = asyncio.ensure_future(loader.load(100))
    await asyncio.sleep(0.1)
    waiter = asyncio.ensure_future(loader.load(60))
    await asyncio.sleep(0.1)
    await cancelled({"held": holder, "waiting": waiter}[step])
    await asyncio.wait_for(loader.load(70), timeout=10)
    assert loader.order[-1] == 70
