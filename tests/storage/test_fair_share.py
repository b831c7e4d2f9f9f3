"""The fair share of each client in the slots of a handler, as claims assign them."""

from collections import Counter

import pytest

from service.domain.ports.queues import HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import TaskId
from service.storage import Store
from tests.storage.builders import LEASE, NOW, SECOND, a_delivery, an_event

TARGET = {"handler": "webhook", "url": "https://receiver.example/hook"}


async def _add(store: Store, client: str, count: int, handler: str = "webhook", **changes: object) -> None:
    """Store `count` deliveries of `client` with a target, each in its own lane."""
    rows = [an_event(f"{client}-{n}", task_id=TaskId(f"{client}-{n}"), client=client) for n in range(count)]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(rows, [a_delivery(row, handler, **{"target": TARGET} | changes) for row in rows])


async def _claim(store: Store, slots: int, *, past_served: bool = True, **held: int) -> list[DeliveryClaim]:
    capacity = HandlerCapacity(names=("webhook", "hook"), slots=slots, held=held, past_served=past_served)
    return await store.deliveries.claim([capacity], now=NOW + SECOND, until=NOW + LEASE)


def _of(claims: list[DeliveryClaim]) -> Counter[str]:
    return Counter(claim.event.client for claim in claims)


async def test_claim_gives_each_client_its_share(store: Store) -> None:
    """However many deliveries of one client wait, each client gets half of the slots that the previous ones left."""
    for client in ("ada", "bob", "eve"):
        await _add(store, client, 40)
    assert _of(await _claim(store, 16)) == {"ada": 8, "bob": 4, "eve": 2}


async def test_held_slots_count(store: Store) -> None:
    """A client at its share gets no more slots; another gets the rest of its share."""
    await _add(store, "ada", 40)
    await _add(store, "bob", 1, due_at=NOW + SECOND)
    assert _of(await _claim(store, 8, ada=8)) == {"bob": 1}
    assert _of(await _claim(store, 10, ada=6)) == {"ada": 2}


async def test_claim_past_served_clients_finds_others(store: Store) -> None:
    """A claim that may not skip clients at their share takes only the rows of its first query."""
    await _add(store, "ada", 40)
    await _add(store, "bob", 1, due_at=NOW + SECOND)
    assert await _claim(store, 8, past_served=False, ada=8) == []
    assert _of(await _claim(store, 8, ada=8)) == {"bob": 1}


@pytest.mark.parametrize("held", [0, 8])
async def test_delivery_without_target_has_no_share(store: Store, held: int) -> None:
    """It takes any free slot, even if its client is at its share."""
    await _add(store, "ada", 20, target={})
    assert _of(await _claim(store, 8, ada=held)) == {"ada": 8}


async def test_names_of_a_handler_share_its_slots(store: Store) -> None:
    """Deliveries stored under a former name count for the same share."""
    await _add(store, "ada", 3)
    await _add(store, "bob", 5, "hook")
    assert _of(await _claim(store, 8)) == {"ada": 3, "bob": 3}
