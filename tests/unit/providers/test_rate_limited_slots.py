"""The limit on the bytes of large submissions in memory."""

import asyncio
from typing import Any

import pytest

from service.providers.rate_limited import RateLimitedClient
from tests.support.fake_rate_limit import FakeProvider, cancelled, rate_limited
from tests.unit.sandbox.test_bench import MOVED


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


class Loader:
    """Holds bytes for a second, and records the maximum that is held at once."""

    def __init__(self, client: RateLimitedClient) -> None:
        self.client = client
        self.held = 0
        self.max_held = 0
        self.order: list[int] = []

    async def load(self, size: int) -> None:
        """Hold `size` bytes for a second."""
        async with self.client.hold_bytes(size):
            self.order.append(size)
            self.held += size
            self.max_held = max(self.max_held, self.held)
            await asyncio.sleep(1)
            self.held -= size


async def test_held_bytes_are_limited() -> None:
    """Loads share the bytes in order of arrival, and never exceed the limit."""
    loader = Loader(rate_limited(FakeProvider(), large_bytes=100))
    sizes = [40, 40, 40, 90, 5, 5]
    await asyncio.gather(*(loader.load(size) for size in sizes))
    assert loader.order == sizes
    assert loader.max_held <= 100


async def test_load_over_the_limit_runs_alone() -> None:
    """A single load over the limit waits for the others, runs alone, and small ones do not starve it."""
    loader = Loader(rate_limited(FakeProvider(), large_bytes=100))
    await asyncio.gather(*(loader.load(size) for size in [10, 150, 10]))
    assert loader.order == [10, 150, 10]
    assert loader.max_held == 150


@pytest.mark.parametrize("step", ["held", "waiting"])
async def test_cancelled_load_releases_its_bytes(step: str) -> None:
    """The bytes are free again after the holder or a waiter is cancelled."""
    loader = Loader(rate_limited(FakeProvider(), large_bytes=100))
    holder = asyncio.ensure_future(loader.load(100))
    await asyncio.sleep(0.1)
    waiter = asyncio.ensure_future(loader.load(60))
    await asyncio.sleep(0.1)
    await cancelled({"held": holder, "waiting": waiter}[step])
    await asyncio.wait_for(loader.load(70), timeout=10)
    assert loader.order[-1] == 70
