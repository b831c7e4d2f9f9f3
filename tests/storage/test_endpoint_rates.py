"""The rate of an endpoint: a bucket that all processes share; what is over it waits and holds up nothing else."""

from collections import Counter
from datetime import timedelta

import httpx
import pytest
from psycopg import sql

from service.domain.errors import InvalidParams
from service.storage import Store
from service.tasks.endpoints import EndpointChanges
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.held_locks import other_session
from tests.support.endpoint_harness import Harness

SECOND = timedelta(seconds=1)


async def test_attempts_keep_the_rate_and_none_is_spent(store: Store) -> None:
    """A burst of one second passes at once; the others follow in their order, each with its first attempt."""
    harness = Harness(store=store)
    await harness.endpoints.create(rate="3/s")
    tasks = await harness.tasks(12)
    await harness.submit(*tasks)
    assert await harness.requests_by_second(5) == [3, 6, 9, 12, 12]
    rows = await harness.deliveries()
    assert {(row.status, row.attempts) for row in rows} == {("delivered", 1)}


async def test_two_processes_share_the_rate(store: Store, open_another: OpenStore) -> None:
    """Both find the same bucket in the database."""
    first = Harness(store=store)
    other = Harness(store=open_another(), clock=first.clock, receivers=first.receivers)
    await first.endpoints.create(rate="2/s")
    await first.submit(*await first.tasks(10))
    for _ in range(3):
        await other.run()
        await first.run()
        first.clock.move(SECOND)
    assert len(first.receivers.requests) == 6


async def test_other_endpoints_and_clients_are_not_held_up(store: Store) -> None:
    """Hundreds of waiting events of a slow endpoint delay no event of another: it finds them all due in one run."""
    harness = Harness(store=store)
    await harness.endpoints.create("anna", url="https://slow.example/hook", rate="1/m")
    await harness.endpoints.create("berta", url="https://quick.example/hook")
    await harness.submit(*await harness.tasks(150, "anna"))
    await harness.submit(*await harness.tasks(20, "berta"))
    await harness.run()
    sent = Counter(request.url.host for request in harness.receivers.requests)
    assert sent == {"slow.example": 1, "quick.example": 20}


async def test_events_of_a_task_stay_in_order(store: Store) -> None:
    """What waits behind a postponed event is due with it."""
    harness = Harness(store=store)
    await harness.endpoints.create(rate="1/s")
    tasks = await harness.tasks(3)
    await harness.submit(*tasks)
    await harness.complete(*tasks)
    for _ in range(7):
        await harness.run()
        harness.clock.move(SECOND)
    bodies = [request.read().decode() for request in harness.receivers.requests]
    assert len(bodies) == 6
    for task in tasks:
        own = [body for body in bodies if task in body]
        assert ["task.submitted" in own[0], "task.completed" in own[1]] == [True, True]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_claim_does_not_wait_for_a_row_of_a_replay(store: Store, database: EmptyDatabase) -> None:
    """A replay that has locked what waits behind a postponed event may be waiting for that event."""
    harness = Harness(store=store)
    await harness.endpoints.create(rate="1/s")
    first, second = await harness.tasks(2)
    await harness.submit(first, second)
    await harness.complete(second)
    async with other_session(database) as session:
        await session.run(
            sql.SQL("SELECT 1 FROM deliveries WHERE event_seq = (SELECT max(event_seq) FROM deliveries) FOR UPDATE")
        )
        await harness.run()
    assert len(harness.receivers.requests) == 1


async def test_replay_by_a_person_is_made_at_once(store: Store) -> None:
    """A single replay is an attempt that somebody waits for."""
    harness = Harness(store=store)
    await harness.endpoints.create(rate="1/h")
    harness.receivers.answer = lambda _: httpx.Response(204)
    await harness.submit(*await harness.tasks(3))
    await harness.run()
    waiting = (await harness.deliveries("pending"))[0]
    await store.replays.replay([waiting.id], now=harness.clock.now())
    await harness.run()
    assert len(harness.receivers.requests) == 2


async def test_rate_is_changed_and_removed(store: Store) -> None:
    """What waits follows the new rate from its next turn; without one everything that becomes due is made."""
    harness = Harness(store=store)
    endpoint = await harness.endpoints.create(rate="1/s")
    await harness.submit(*await harness.tasks(8))
    await harness.run()
    changed = await harness.endpoints.service.change(endpoint, EndpointChanges(given={"rate": None}))
    assert changed.rate is None
    await harness.run(move=8 * SECOND)
    assert len(harness.receivers.requests) == 8
    with pytest.raises(InvalidParams, match="like 30/s"):
        await harness.endpoints.service.change(changed, EndpointChanges(given={"rate": "fast"}))
    with pytest.raises(InvalidParams, match="rate"):
        await harness.endpoints.create(rate="0/s")


async def test_oldest_is_not_starved_by_new_events(store: Store) -> None:
    """A backlog drains in about its order while new events come at half the rate, and leaves no delay behind.

    As in sidekiq/sidekiq#5315 and OptimalBits/bull#2235: waiters that lose each time, and a delay that never ends.
    """
    harness = Harness(store=store)
    await harness.endpoints.create(rate="4/s")
    first = await harness.tasks(24)
    await harness.submit(*first)
    for _ in range(14):
        await harness.submit(*await harness.tasks(2))
        await harness.run(move=SECOND)
    bodies = [request.read().decode() for request in harness.receivers.requests]
    last = max(place for place, body in enumerate(bodies) if any(task in body for task in first))
    assert sum(any(task in body for task in first) for body in bodies) == 24
    assert last < 24 + 2 * 14
    await harness.run(move=5 * SECOND)
    sent = len(harness.receivers.requests)
    await harness.submit(*await harness.tasks(1))
    await harness.run()
    assert len(harness.receivers.requests) == sent + 1
    assert not await harness.deliveries("pending")


async def test_one_a_minute_sends_one(store: Store) -> None:
    """Five events at once to an endpoint with one a minute: four wait (frain-dev/convoy#1927)."""
    harness = Harness(store=store)
    await harness.endpoints.create(rate="1/m")
    await harness.submit(*await harness.tasks(5))
    counts = []
    for _ in range(3):
        await harness.run()
        counts.append(len(harness.receivers.requests))
        harness.clock.move(60 * SECOND)
    assert counts == [1, 2, 3]
