"""Rates of handlers: a token bucket in the database that all processes obey."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from service.domain.delivery_rate import TokenBucket, rate_of
from service.domain.ports.queues import HandlerCapacity
from service.storage import Store
from tests.storage.builders import LEASE, NOW, SECOND, add_deliveries
from tests.storage.conftest import OpenStore


async def _fill(store: Store, handler: str, count: int) -> None:
    for number in range(count):
        await add_deliveries(store, handler, events=[f"e{handler}{number}"], task_id=f"t{handler}{number}")


async def _claimed(stores: Sequence[Store], rate: float | None, at: timedelta) -> int:
    capacity = HandlerCapacity(names=("new", "log"), slots=100, rate=rate)
    now = NOW + at
    return sum([len(await each.deliveries.claim([capacity], now=now, until=now + LEASE)) for each in stores])


async def test_processes_obey_one_rate_together(store: Store, open_another: OpenStore) -> None:
    """Three processes start 5 deliveries in the first moment and 5 in each second, not 15."""
    await _fill(store, "log", 30)
    stores = [store, open_another(), open_another()]
    assert [await _claimed(stores, 5.0, number * SECOND) for number in range(4)] == [5, 5, 5, 5]
    assert await _claimed(stores, 5.0, 3 * SECOND + SECOND / 5) == 1


async def test_slow_rate_keeps_one_token(store: Store) -> None:
    """Six a minute: one at once and one every ten seconds, however long nothing was due."""
    await _fill(store, "log", 5)
    found = [await _claimed([store], 0.1, each * SECOND) for each in (100, 100, 109, 110, 115, 900, 901)]
    assert found == [1, 0, 0, 1, 0, 1, 0]


async def test_handler_without_a_rate_is_not_limited_by_another(store: Store) -> None:
    """Each handler has its own bucket."""
    await _fill(store, "log", 4)
    await _fill(store, "other", 4)
    capacities = [HandlerCapacity(names=("log",), slots=9, rate=1.0), HandlerCapacity(names=("other",), slots=9)]
    claims = await store.deliveries.claim(capacities, now=NOW, until=NOW + LEASE)
    assert sorted(claim.handler for claim in claims) == ["log", *["other"] * 4]


async def test_clock_that_was_ahead_stops_nothing(store: Store) -> None:
    """A token that was taken in the far future holds nobody up once the clock is right again."""
    await _fill(store, "log", 3)
    assert await _claimed([store], 1.0, timedelta(days=9)) == 1
    assert await _claimed([store], 1.0, timedelta()) == 1


def test_bucket_is_never_fuller_than_a_second() -> None:
    """What was not used is not saved up."""
    bucket = TokenBucket(rate=30.0, free_at=NOW - timedelta(days=1))
    assert bucket.tokens(NOW) == 30
    assert TokenBucket(rate=30.0, free_at=bucket.after(30, NOW)).tokens(NOW) == 0


@pytest.mark.parametrize("text", ["", "30", "0/s", "30/d", "-1/s", "30 /s", "1e3/s"])
def test_wrong_rates(text: str) -> None:
    """The message has examples."""
    with pytest.raises(ValueError, match="30/s"):
        rate_of(text)


def test_rates_are_per_second() -> None:
    """Seconds, minutes and hours."""
    assert [rate_of("30/s"), rate_of("600/m"), rate_of("1800/h")] == [30.0, 10.0, 0.5]
