"""At most one delivery of a lane is leased at a time."""

from service.storage import Store
from tests.storage.builders import LEASE, NOW, SECOND, add_deliveries, an_attempt, claim_deliveries, replay


async def test_replay_waits_for_a_leased_later_delivery_of_its_lane(store: Store) -> None:
    """A replayed delivery does not run in parallel to a later one of its lane; after that lease it comes first."""
    await add_deliveries(store, "log", events=["e1"])
    [first] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(first)])
    await add_deliveries(store, "log", events=["e2"])
    [second] = await claim_deliveries(store)
    assert await replay(store, first.id) == [first.id]
    assert await claim_deliveries(store) == []
    assert [claim.id for claim in await claim_deliveries(store, now=NOW + LEASE + SECOND)] == [first.id]
    assert second.id != first.id


async def test_events_of_a_task_stay_in_order(store: Store) -> None:
    """A handler gets the later event of a task only after the earlier one is delivered, however often that fails."""
    await add_deliveries(store, "log", events=["completed", "stored"])
    for attempt in range(3):
        [claim] = await claim_deliveries(store, now=NOW + attempt * SECOND)
        assert claim.event.id == "completed"
        await store.deliveries.finish([an_attempt(claim, "retry", due_at=NOW + attempt * SECOND)])
    [claim] = await claim_deliveries(store, now=NOW + 3 * SECOND)
    await store.deliveries.finish([an_attempt(claim)])
    assert [each.event.id for each in await claim_deliveries(store, now=NOW + 3 * SECOND)] == ["stored"]


async def test_dead_letter_does_not_hold_up_the_next_event(store: Store) -> None:
    """The later event of a task is delivered although the earlier one never could be."""
    await add_deliveries(store, "log", events=["completed", "stored"])
    [claim] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(claim, "dead", fault="destination")])
    assert [each.event.id for each in await claim_deliveries(store, now=NOW + SECOND)] == ["stored"]
