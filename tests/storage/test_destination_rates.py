"""NOTIFY_RATE: what clients' addresses at one host get, from a bucket in the database that all processes share."""

from collections import Counter
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, select, update

from service.domain.circuit import destination_of
from service.domain.ports.queues import HandlerCapacity
from service.storage import Store
from service.storage.control_tables import rate_buckets
from service.storage.destination_rates import OF_DESTINATION
from service.storage.dialects import lock_if_free
from tests.storage.builders import LEASE
from tests.storage.conftest import OpenStore
from tests.support.endpoint_harness import Harness

SECOND = timedelta(seconds=1)


def _harness(store: Store, rate: float | None = 3.0, **changes: Any) -> Harness:
    harness = Harness(store=store, **changes)
    harness.loop.slots.destination_rate = rate
    return harness


async def _submit(harness: Harness, count: int, client: str = "anna", url: str = "https://hooks.example/anna") -> None:
    await harness.submit(*await harness.tasks(count, client, notify=[{"handler": "webhook", "url": url}]))


async def test_host_gets_no_more_than_its_rate(store: Store) -> None:
    """Deliveries to two paths of a host share the bucket; those that wait lose no attempt."""
    harness = _harness(store)
    await _submit(harness, 6)
    await _submit(harness, 6, url="https://hooks.example/other")
    assert await harness.requests_by_second(5) == [3, 6, 9, 12, 12]
    assert {(row.status, row.attempts) for row in await harness.deliveries()} == {("delivered", 1)}


async def test_processes_share_the_rate(store: Store, open_another: OpenStore) -> None:
    """Ten processes that claim in turn start together what one may start, also in the first moment."""
    first = _harness(store, 2.0)
    others = [_harness(open_another(), 2.0, clock=first.clock, receivers=first.receivers) for _ in range(9)]
    await _submit(first, 12)
    for second in range(3):
        for each in (*others, first):
            await each.run()
        assert len(first.receivers.requests) == 2 * (second + 1)
        first.clock.move(SECOND)


async def test_delivery_whose_token_comes_at_this_moment_is_due(store: Store) -> None:
    """A third of a second has no end in microseconds: its token may come at the moment that postpones it."""
    harness = _harness(store)
    await _submit(harness, 1)
    await harness.run()
    async with store._database.writing() as write:
        last = harness.clock.now() - timedelta(microseconds=333_333)
        await write.connection.execute(update(rate_buckets).values(free_at=last))
    await _submit(harness, 2)
    assert await harness.requests_by_second(2) == [2, 3]


async def test_others_are_not_held_up(store: Store) -> None:
    """A backlog to one host delays no other host, no other client at the same host, and no delivery by WEBHOOK_URL."""
    harness = _harness(store, 1 / 60)
    await _submit(harness, 150)
    await _submit(harness, 1, url="https://quick.example/hook")
    await _submit(harness, 1, "berta")
    await harness.run()
    assert Counter(request.url.host for request in harness.receivers.requests) == {
        "hooks.example": 2,
        "quick.example": 1,
    }


async def test_without_the_setting_nothing_waits(store: Store) -> None:
    """No bucket is made, and all are made at once."""
    harness = _harness(store, None)
    await _submit(harness, 12)
    await harness.run()
    assert len(harness.receivers.requests) == 12
    assert await _buckets(store) == 0


async def test_endpoint_with_its_own_rate_has_that_instead(store: Store) -> None:
    """The endpoint's rate is higher; one without a rate shares the host's bucket with `notify`."""
    harness = _harness(store, 1.0)
    await harness.endpoints.create(url="https://own.example/hook", rate="4/s")
    await harness.endpoints.create(url="https://hooks.example/standing")
    await _submit(harness, 4)
    await harness.run()
    assert Counter(request.url.host for request in harness.receivers.requests) == {
        "own.example": 4,
        "hooks.example": 1,
    }


async def test_attempt_that_a_person_requested_is_made_at_once(store: Store) -> None:
    """A single replay waits for no token."""
    harness = _harness(store, 1 / 3600)
    await _submit(harness, 2)
    await harness.run()
    [waiting] = await harness.deliveries("pending")
    await store.replays.replay([waiting.id], now=harness.clock.now())
    await harness.run()
    assert len(harness.receivers.requests) == 2


async def test_requested_wait_outlasts_the_rate(store: Store) -> None:
    """After 429 with Retry-After the host is not called until then, however many tokens there are."""
    harness = _harness(store, 10.0)
    harness.receivers.answer = lambda _: httpx.Response(429, headers={"retry-after": "120"})
    await _submit(harness, 1)
    await harness.run()
    harness.receivers.answer = lambda _: httpx.Response(204)
    await _submit(harness, 5)
    await harness.pass_time(timedelta(seconds=110))
    assert len(harness.receivers.requests) == 1
    await harness.pass_time(timedelta(seconds=30))
    assert len(harness.receivers.requests) == 7


async def test_buckets_that_are_full_are_deleted(store: Store) -> None:
    """One that was used an hour ago is; one that was used now, and that of an endpoint, are not."""
    harness = _harness(store)
    await harness.endpoints.create(url="https://own.example/hook", rate="4/s")
    await _submit(harness, 1)
    await harness.run(move=SECOND)
    await harness.controls.prune()
    assert await _buckets(store) == 2
    harness.clock.move(timedelta(hours=2))
    await harness.controls.prune()
    assert await _buckets(store) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_bucket_that_another_claim_makes_is_not_waited_for(store: Store, open_another: OpenStore) -> None:
    """Two claims that make buckets of new hosts in different orders would else wait for each other."""
    harness = _harness(store, 5.0)
    await _submit(harness, 3)
    name = OF_DESTINATION + destination_of("webhook", "anna", {"url": "https://hooks.example/"}).key
    other = open_another()
    now, capacity = harness.clock.now(), HandlerCapacity(names=("webhook",), slots=9, destination_rate=5.0)
    async with other._database.writing() as write:
        assert await lock_if_free(write.connection, f"rate {name}")
        await write.connection.execute(insert(rate_buckets), {"name": name, "free_at": now})
        first = await store.deliveries.claim([capacity], now=now, until=now + LEASE)
    later = now + SECOND
    assert (len(first), len(await store.deliveries.claim([capacity], now=later, until=later + LEASE))) == (0, 3)


async def _buckets(store: Store) -> int:
    async with store._database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(rate_buckets))).scalar_one())
