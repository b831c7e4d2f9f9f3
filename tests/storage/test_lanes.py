"""A lane of deliveries is in one hand at a time."""

from service.storage import Store
from tests.storage.builders import LEASE, NOW, SECOND, add_deliveries, an_attempt, claim_deliveries


async def test_replay_waits_while_a_later_one_of_its_lane_is_in_hand(store: Store) -> None:
    """A replayed delivery is not run beside a later one of its lane; it goes first once that one's lease is over."""
    await add_deliveries(store, "log", events=["e1"])
    [first] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(first)])
    await add_deliveries(store, "log", events=["e2"])
    [second] = await claim_deliveries(store)
    assert await store.deliveries.replay([first.id], now=NOW) == [first.id]
    assert await claim_deliveries(store) == []
    assert [claim.id for claim in await claim_deliveries(store, now=NOW + LEASE + SECOND)] == [first.id]
    assert second.id != first.id
