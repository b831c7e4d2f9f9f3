"""Claims on deliveries that came to no counted end: those of a process that ended, and those that were given back."""

from service.store import Store
from tests.contract.builders import LEASE, NOW, add_deliveries, an_attempt, claim_deliveries


async def test_claims_that_came_to_no_end_are_counted(store: Store) -> None:
    """A claim tells how many before it were abandoned, whatever attempts were counted between."""
    await add_deliveries(store, "log")
    claims = [claim for lap in range(3) for claim in await claim_deliveries(store, now=NOW + lap * LEASE)]
    assert [claim.abandoned for claim in claims] == [0, 1, 2]
    now = NOW + 3 * LEASE
    await store.deliveries.finish([an_attempt(claims[-1], "retry", due_at=now)])
    assert [claim.abandoned for claim in await claim_deliveries(store, now=now)] == [0]
    assert [claim.abandoned for claim in await claim_deliveries(store, now=now + LEASE)] == [3]


async def test_what_is_given_back_or_replayed_was_not_abandoned(store: Store) -> None:
    """A stop in order is no sign of a delivery that ends its process, and a replay is no claim."""
    await add_deliveries(store, "log")
    [claim] = await claim_deliveries(store)
    await store.deliveries.release({claim.id: claim.fence})
    [claim] = await claim_deliveries(store)
    assert claim.abandoned == 0
    await store.deliveries.finish([an_attempt(claim, "dead", fault="ours")])
    await store.deliveries.replay([claim.id], now=NOW)
    await claim_deliveries(store)
    assert [claim.abandoned for claim in await claim_deliveries(store, now=NOW + LEASE)] == [2]
