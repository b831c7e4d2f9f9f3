"""A fair share of a handler's places for each client, as far as a claim gives them out."""

from collections import Counter

import pytest

from service.domain.ports.queues import HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import TaskId
from service.storage import Store
from tests.storage.builders import LEASE, NOW, SECOND, a_delivery, an_event

TARGET = {"handler": "webhook", "url": "https://receiver.example/hook"}


async def _add(store: Store, client: str, count: int, handler: str = "webhook", **changes: object) -> None:
    """Store so many deliveries of `client`, to a target of its own, each in a lane of its own."""
    rows = [an_event(f"{client}-{n}", task_id=TaskId(f"{client}-{n}"), client=client) for n in range(count)]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(rows, [a_delivery(row, handler, **{"target": TARGET} | changes) for row in rows])


async def _claim(store: Store, slots: int, *, past_served: bool = True, **held: int) -> list[DeliveryClaim]:
    room = HandlerCapacity(names=("webhook", "hook"), slots=slots, held=held, past_served=past_served)
    return await store.deliveries.claim([room], now=NOW + SECOND, until=NOW + LEASE)


def _of(claims: list[DeliveryClaim]) -> Counter[str]:
    return Counter(claim.event.client for claim in claims)


async def test_a_claim_gives_each_client_its_share(store: Store) -> None:
    """However much the first client has waiting before the others, each gets half of what the ones before it left."""
    for client in ("ada", "bob", "eve"):
        await _add(store, client, 40)
    assert _of(await _claim(store, 16)) == {"ada": 8, "bob": 4, "eve": 2}


async def test_what_is_held_already_counts(store: Store) -> None:
    """A client that has its share gets no more, and what it may still have is what it gets."""
    await _add(store, "ada", 40)
    await _add(store, "bob", 1, due_at=NOW + SECOND)
    assert _of(await _claim(store, 8, ada=8)) == {"bob": 1}
    assert _of(await _claim(store, 10, ada=6)) == {"ada": 2}


async def test_whoever_waits_far_behind_is_found_where_that_may_be_looked_for(store: Store) -> None:
    """A claim that is not to look past those with their share takes only what it sees at once."""
    await _add(store, "ada", 40)
    await _add(store, "bob", 1, due_at=NOW + SECOND)
    assert await _claim(store, 8, past_served=False, ada=8) == []
    assert _of(await _claim(store, 8, ada=8)) == {"bob": 1}


@pytest.mark.parametrize("held", [0, 8])
async def test_what_no_request_named_a_target_for_has_no_share(store: Store, held: int) -> None:
    """It takes what is free, also of a client that has its share."""
    await _add(store, "ada", 20, target={})
    assert _of(await _claim(store, 8, ada=held)) == {"ada": 8}


async def test_names_share_the_places(store: Store) -> None:
    """What is stored under a former name counts for the same share."""
    await _add(store, "ada", 3)
    await _add(store, "bob", 5, "hook")
    assert _of(await _claim(store, 8)) == {"ada": 3, "bob": 3}
