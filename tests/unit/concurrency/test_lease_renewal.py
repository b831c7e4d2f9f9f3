"""How often leases are renewed, in virtual time."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.concurrency.lease_pool import LeasePool
from service.domain.errors import StoreUnavailable
from tests.unit.sandbox.test_bench import MOVED

LEASE = timedelta(seconds=30)
START = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


class LoopClock:
    """A clock that shows the time of the loop."""

    def now(self) -> datetime:
        """Return the time."""
        return START + timedelta(seconds=asyncio.get_running_loop().time())


class Leases:
    """A store that records when it is asked to renew, and until when; `failures` are raised first."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.times: list[float] = []
        self.until: list[datetime] = []

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Renew every lease."""
        self.times.append(round(asyncio.get_running_loop().time(), 3))
        if len(self.times) <= self.failures:
            raise StoreUnavailable("gone")
        self.until.append(until)
        return set(claims)


@pytest.mark.parametrize("failures", [0, 2])
async def test_lease_outlives_two_failed_renewals(failures: int) -> None:
    """Leases are renewed every third of their time, each to a whole lease from then, so that two may fail."""
    store = Leases(failures)
    pool: LeasePool[str] = LeasePool(store=store, clock=LoopClock(), lease=LEASE)
    pool.start("row", 1, asyncio.sleep(65), leased_until=START + LEASE)
    await asyncio.sleep(65.5)
    assert store.times == [10, 20, 30, 40, 50, 60]
    assert store.until == [START + timedelta(seconds=at) + LEASE for at in store.times[failures:]]
    await pool.drain(0)
