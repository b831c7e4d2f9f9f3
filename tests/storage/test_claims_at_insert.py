"""Deliveries claimed at insert: leased by the transaction that inserts them, then treated like any claim."""

from collections.abc import Sequence

from service.domain.ports.unit_of_work import DeliveryClaim, DeliveryRow, EventRow
from service.domain.task import TaskId
from service.storage import Store
from tests.storage.builders import (
    LEASE,
    NOW,
    SECOND,
    a_blob,
    a_delivery,
    a_task,
    add_deliveries,
    an_attempt,
    an_event,
    claim_deliveries,
)

UNTIL = NOW + LEASE


async def _append(store: Store, events: Sequence[EventRow], rows: Sequence[DeliveryRow]) -> list[DeliveryClaim]:
    async with store.units_of_work.transaction() as transaction:
        claims = await transaction.append(events, rows)
    return list(claims())


async def _claimed_at_insert(store: Store, *events: str) -> list[str]:
    """Insert events whose deliveries request a lease; return the deliveries that were claimed."""
    rows = [an_event(event_id) for event_id in events]
    return [claim.id for claim in await _append(store, rows, [a_delivery(row, leased_until=UNTIL) for row in rows])]


async def test_claim_at_insert_equals_a_later_claim(store: Store) -> None:
    """It is the first attempt, has its event, target and payload, and finishes like any other."""
    await store.intake.add(a_task(), [a_blob(), a_blob("payload", b"the caller's own")], None)
    event = an_event()
    row = a_delivery(event, target={"url": "https://example.org"}, leased_until=UNTIL)
    [claim] = await _append(store, [event], [row])
    assert claim == DeliveryClaim(
        id=row.id,
        fence=1,
        attempt=1,
        handler="log",
        message_id=row.message_id,
        target=row.target,
        event=event,
        payload="the caller's own",
        created_at=event.at,
    )
    assert await store.deliveries.finish([an_attempt(claim)]) == {row.id}
    found = await store.deliveries.delivery(row.id)
    assert found is not None
    assert (found.status, found.attempts) == ("delivered", 1)


async def test_delivery_without_lease_is_not_claimed_at_insert(store: Store) -> None:
    """It waits until a worker claims it."""
    event = an_event()
    rows = [a_delivery(event, "log", leased_until=UNTIL), a_delivery(event, "webhook")]
    assert [claim.id for claim in await _append(store, [event], rows)] == ["e1-log"]
    assert [claim.id for claim in await claim_deliveries(store, "log", "webhook")] == ["e1-webhook"]


async def test_abandoned_claim_at_insert_is_claimed_after_its_lease(store: Store) -> None:
    """A process that crashes after the commit loses no delivery; its late result has no effect."""
    event = an_event()
    [lost] = await _append(store, [event], [a_delivery(event, leased_until=UNTIL)])
    assert await claim_deliveries(store, now=UNTIL - SECOND) == []
    [claim] = await claim_deliveries(store, now=UNTIL)
    assert (claim.id, claim.fence, claim.attempt, claim.abandoned) == (lost.id, 2, 1, True)
    assert await store.deliveries.finish([an_attempt(lost, "dead")]) == set()


async def test_only_the_first_of_a_lane_is_claimed_at_insert(store: Store) -> None:
    """Of two events of a task in one transaction, the second waits until the first is delivered."""
    assert await _claimed_at_insert(store, "e1", "e2") == ["e1-log"]
    assert await claim_deliveries(store) == []


async def test_lane_with_a_pending_delivery_is_not_claimed_at_insert(store: Store) -> None:
    """A new delivery waits for an earlier pending one of its lane, leased or not."""
    await add_deliveries(store, "log", events=["e1"])
    assert await _claimed_at_insert(store, "e2") == []
    [first] = await claim_deliveries(store)
    assert await _claimed_at_insert(store, "e3") == []
    await store.deliveries.finish([an_attempt(first)])
    assert [claim.id for claim in await claim_deliveries(store, now=NOW + SECOND)] == ["e2-log"]


async def test_lane_without_pending_deliveries_is_claimed_at_insert(store: Store) -> None:
    """Finished deliveries of the lane, and pending ones of other lanes, do not prevent a claim."""
    await add_deliveries(store, "log", events=["e1"])
    [first] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(first)])
    other = an_event("x1", task_id=TaskId("t2"))
    assert [claim.id for claim in await _append(store, [other], [a_delivery(other, leased_until=UNTIL)])] == ["x1-log"]
    assert await _claimed_at_insert(store, "e2") == ["e2-log"]


async def test_claim_at_insert_is_renewed_and_released_like_a_claim(store: Store) -> None:
    """Its fence renews the lease; after a release it is due at once."""
    event = an_event()
    [claim] = await _append(store, [event], [a_delivery(event, leased_until=UNTIL)])
    assert await store.deliveries.renew({claim.id: claim.fence}, until=UNTIL + LEASE) == {claim.id}
    assert await claim_deliveries(store, now=UNTIL) == []
    await store.deliveries.release({claim.id: claim.fence})
    assert [(one.attempt, one.abandoned) for one in await claim_deliveries(store)] == [(1, False)]


async def test_finish_notifies_only_if_a_delivery_is_due(store: Store) -> None:
    """The end of a delivery notifies `dispatch` only if its lane has others, or if it is due again at once."""
    await add_deliveries(store, "log", events=["e1", "e2"])
    await add_deliveries(store, "log", events=["x1"], task_id="t2")
    lone, head = sorted(await claim_deliveries(store), key=lambda claim: claim.id, reverse=True)
    await store.signals.wait("dispatch", 0)
    await store.deliveries.finish([an_attempt(lone)])
    assert not await store.signals.wait("dispatch", 0)
    await store.deliveries.finish([an_attempt(head, "retry", due_at=NOW)])
    assert await store.signals.wait("dispatch", 0)
    [head] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(head)])
    assert await store.signals.wait("dispatch", 0)
    [follower] = await claim_deliveries(store, now=NOW + SECOND)
    await store.deliveries.finish([an_attempt(follower, "retry", due_at=NOW)])
    assert await store.signals.wait("dispatch", 0)
