"""Pauses of handlers: durable, seen by every process, and dead letters by the responsible party."""

import psycopg
import pytest

from service.domain.ports.deliveries import DeliverySelection
from service.storage import Store
from tests.storage.builders import NOW, SECOND, add_deliveries, an_attempt, claim_deliveries
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.emitted import emitted, once_before


async def test_pauses_are_shared(open_another: OpenStore, store: Store) -> None:
    """Another process reads the pause; a second one leaves it; a resume ends it once."""
    other = open_another()
    first = await store.handler_pauses.pause("old", names=["new", "old"], by="root", now=NOW)
    again = await other.handler_pauses.pause("old", names=["old"], by="eve", now=NOW + SECOND)
    assert first == again
    assert await other.handler_pauses.paused() == {"old": first}
    assert (first.names, first.since, first.by) == (("new", "old"), NOW, "root")
    assert await other.handler_pauses.resume("old")
    assert not await store.handler_pauses.resume("old")
    assert await store.handler_pauses.paused() == {}


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_pause_beside_a_resume(store: Store, database: EmptyDatabase) -> None:
    """A pause of a paused handler that another process resumes meanwhile is a new pause, not an error."""

    def resume() -> None:
        with psycopg.connect(database.url, autocommit=True) as session:
            session.execute("DELETE FROM handler_pauses")

    with emitted(store) as statements:
        await store.handler_pauses.pause("old", names=["old"], by="root", now=NOW)
    assert statements
    for place in statements:
        with once_before(place.sql, resume):
            again = await store.handler_pauses.pause("old", names=["old"], by="eve", now=NOW + SECOND)
        assert await store.handler_pauses.paused() == {"old": again}


async def test_paused_handler_is_no_sign_of_a_missing_worker(store: Store) -> None:
    """Its deliveries do not count as due: the alert on their age is for workers that do not run."""
    await add_deliveries(store, "log", "new")
    await store.handler_pauses.pause("old", names=["new", "old"], by="root", now=NOW)
    await claim_deliveries(store)
    assert (await store.health.gauges(NOW + 5 * SECOND)).oldest_due.total_seconds() == 0
    await store.handler_pauses.resume("old")
    assert (await store.health.gauges(NOW + 5 * SECOND)).oldest_due.total_seconds() == 5


async def test_dead_letters_of_two_classes(store: Store) -> None:
    """They are listed and counted by the responsible party."""
    await add_deliveries(store, "log", events=["e1"])
    await add_deliveries(store, "log", events=["e2"], task_id="t2")
    claims = await claim_deliveries(store)
    faults = {"e1-log": "ours", "e2-log": "destination"}
    await store.deliveries.finish([an_attempt(each, "dead", fault=faults[each.id]) for each in claims])
    for delivery, fault in faults.items():
        found = await store.queries.deliveries(DeliverySelection(limit=10, fault=fault))
        assert [each.id for each in found.deliveries] == [delivery]
    assert (await store.health.gauges(NOW)).dead_faults == {"ours": 1, "destination": 1}
