"""Deliveries of one task to one host count as one: a single one of them is leased at a time."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest
from psycopg import sql

from service.domain.ports.unit_of_work import DeliveryRow
from service.domain.task import TaskId
from service.storage import Store
from tests.storage.builders import LEASE, NOW, SECOND, a_delivery, an_attempt, an_event, claim_deliveries
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.held_locks import other_session

UNTIL = NOW + LEASE


def _rows(count: int, *, event_id: str = "e1", task_id: str = "t1", leased: bool = False) -> list[DeliveryRow]:
    """Return deliveries of one event to different paths of one host."""
    event = an_event(event_id, task_id=TaskId(task_id))
    return [
        a_delivery(
            event,
            "webhook",
            id=f"{event_id}-{number}",
            lane=f"{task_id}/{number}",
            target={"url": f"https://example.org/{number}"},
            destination=f"{task_id}/webhook/example.org",
            leased_until=UNTIL if leased else None,
        )
        for number in range(count)
    ]


async def _append(store: Store, rows: list[DeliveryRow]) -> list[str]:
    events = [an_event(one, task_id=rows[0].task_id) for one in dict.fromkeys(row.event_id for row in rows)]
    async with store.units_of_work.transaction() as transaction:
        claims = await transaction.append(events, rows)
    return [claim.id for claim in claims()]


async def test_one_delivery_of_a_destination_is_claimed(store: Store) -> None:
    """The next one follows when its attempt has ended, and the process that waits is notified."""
    await _append(store, _rows(3))
    [first] = await claim_deliveries(store, "webhook")
    assert await claim_deliveries(store, "webhook") == []
    await store.deliveries.finish([an_attempt(first)])
    assert await store.signals.wait("dispatch", 5)
    [second] = await claim_deliveries(store, "webhook")
    await store.deliveries.finish([an_attempt(second, "retry", due_at=NOW + SECOND)])
    [third] = await claim_deliveries(store, "webhook")
    assert {first.id, second.id, third.id} == {"e1-0", "e1-1", "e1-2"}


async def test_other_tasks_and_deliveries_without_a_destination_are_claimed_beside_it(store: Store) -> None:
    """Only entries of one task count as one; rows of the previous release have no destination."""
    await _append(store, _rows(2))
    await _append(store, _rows(2, event_id="e2", task_id="t2"))
    event = an_event("e3", task_id=TaskId("t3"))
    async with store.units_of_work.transaction() as transaction:
        rows = [a_delivery(event, "webhook", id=f"e3-{number}", lane=f"t3/{number}") for number in range(2)]
        await transaction.append([event], rows)
    claims = await claim_deliveries(store, "webhook")
    assert sorted(claim.id.partition("-")[0] for claim in claims) == ["e1", "e2", "e3", "e3"]  # of equally old ones any


async def test_claim_with_few_slots_reaches_other_destinations(store: Store) -> None:
    """The rows of a busy destination do not hold up those behind them."""
    await _append(store, _rows(16))
    await _append(store, _rows(1, event_id="e2", task_id="t2"))
    await claim_deliveries(store, "webhook", limit=1)
    assert [claim.id for claim in await claim_deliveries(store, "webhook", limit=1)] == ["e2-0"]


async def test_one_delivery_of_a_destination_is_claimed_at_insert(store: Store) -> None:
    """Later events of the task wait for it too."""
    assert await _append(store, _rows(16, leased=True)) == ["e1-0"]
    later = [*_rows(1, event_id="e2", leased=True)]
    later[0] = a_delivery(
        an_event("e2"), "webhook", id="e2-x", lane="t1/x", destination=later[0].destination, leased_until=UNTIL
    )
    assert await _append(store, later) == []


async def test_abandoned_delivery_frees_its_destination(store: Store) -> None:
    """When the lease of a process that crashed has run out."""
    await _append(store, _rows(2))
    await claim_deliveries(store, "webhook")
    claims = await claim_deliveries(store, "webhook", now=UNTIL + SECOND)
    assert len(claims) == 1


async def _both(database: EmptyDatabase, one: Awaitable[list[str]], other: Awaitable[list[str]]) -> list[str]:
    """Return the ids that two processes lease: the second one begins when the first one has chosen its rows."""
    async with other_session(database) as session:
        await session.run(sql.SQL("LOCK TABLE deliveries IN SHARE MODE"))
        first = asyncio.ensure_future(one)
        await session.until_waiting(1)
        second, waiting = asyncio.ensure_future(other), asyncio.ensure_future(session.until_waiting(2))
        await asyncio.wait([second, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    return [*await first, *await second]


async def _claimed(store: Store, limit: int) -> list[str]:
    return [claim.id for claim in await claim_deliveries(store, "webhook", limit=limit)]


def _later(event_id: str) -> list[DeliveryRow]:
    """Return a delivery of a later event to one more path of the host, with the wish for a lease."""
    [row] = _rows(1, event_id=event_id, leased=True)
    return [replace(row, lane="t1/more")]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_claims_at_the_same_time_lease_one_delivery_of_a_destination(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """The second claim skips the row that the first one has chosen, and does not see that it will be leased."""
    await _append(store, _rows(2))
    assert await _both(database, _claimed(store, 1), _claimed(open_another(), 1)) in (["e1-0"], ["e1-1"])  # equally old
    assert await _claimed(store, 1) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("claim_first", [True, False])
async def test_claim_and_insert_at_the_same_time_lease_one_delivery_of_a_destination(
    store: Store, open_another: OpenStore, database: EmptyDatabase, claim_first: bool
) -> None:
    """A delivery that is leased by the commit that makes it counts before that commit, and so does a claim."""
    await _append(store, _rows(1))
    two = _claimed(store, 1), _append(open_another(), _later("e2"))
    assert len(await _both(database, *(two if claim_first else reversed(two)))) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_destination_that_another_process_leases_holds_up_no_other(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """Nothing waits for the other process: what is not of its destinations is claimed."""
    await _append(store, _rows(2))
    await _append(store, _rows(1, event_id="e2", task_id="t2"))
    async with other_session(database) as session:
        name = "boomerang destination t1/webhook/example.org"
        await session.run(sql.SQL("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"), name)
        async with asyncio.timeout(5):
            assert await _claimed(open_another(), 10) == ["e2-0"]
