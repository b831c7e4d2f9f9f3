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
