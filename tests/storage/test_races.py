"""Histories in which leases run out, processes meet and work is left behind: nothing is lost, doubled or stuck."""

import asyncio

import pytest

from service.domain.ports.queues import Limits
from service.domain.task import Status, Usage
from service.storage import Store, retention
from tests.storage.builders import (
    HOUR,
    LEASE,
    MINUTE,
    NOW,
    a_task,
    add_deliveries,
    add_tasks,
    an_attempt,
    an_entry,
    an_input,
    claim_deliveries,
    claim_submissions,
    stored,
)
from tests.storage.conftest import OpenStore, Place

PATIENCE = 5.0


async def test_late_result_in_one_batch_with_its_successor_is_left_out(store: Store) -> None:
    """A process that was suspended past its lease may end one delivery twice at once: the newer claim's end counts."""
    await add_deliveries(store, "log")
    [early] = await claim_deliveries(store)
    [late] = await claim_deliveries(store, now=NOW + LEASE)
    for pair in ([early, late], [late, early]):
        results = [an_attempt(claim, "delivered" if claim is late else "dead") for claim in pair]
        assert await store.deliveries.finish(results) <= {late.id}
    found = await store.deliveries.delivery(late.id)
    assert found is not None
    assert (found.status, found.attempts) == ("delivered", 1)


async def test_queued_again_costs_nothing(store: Store) -> None:
    """What never left and waits to be sent again takes nothing from the day's budget."""
    known = a_task("known", status=Status.COMPLETED, submitted_at=NOW - 24 * HOUR, usage=Usage(cost="1.00"))
    waiting = [a_task(f"t{n}", submission=1, submitted_at=NOW, tries=1) for n in range(3)]
    await add_tasks(store, known, *waiting)
    assert await store.tasks.budget_spent(NOW) == 0
    claimed = await claim_submissions(store, limits=Limits(budget=3.0))
    assert len(claimed) == 3


async def test_note_of_waiting_waits_for_nobody(store: Store, open_another: OpenStore, place: Place) -> None:
    """A task that another process has in its hands gets its note later; nobody waits in a circle."""
    other = open_another()
    await add_tasks(store, a_task("t1"), a_task("t2"))
    locked, done = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with other.units_of_work.transaction() as transaction:
            await transaction.lock({a_task("t1").id})
            locked.set()
            await done.wait()

    holder = asyncio.create_task(hold())
    await locked.wait()
    if place.url.startswith("sqlite"):
        done.set()  # there every write is alone
    async with asyncio.timeout(PATIENCE):
        await store.tasks.note_waiting("waits", now=NOW)
    done.set()
    await holder
    assert (await stored(store, "t2")).note == "waits"


async def test_prune_forgets_what_belongs_to_long_expired_tasks(store: Store) -> None:
    """An expired task that nobody asks about any more keeps its media and raw callbacks no longer than others."""
    expired = a_task("t1", status=Status.EXPIRED, guessed=True, due_at=None, deadline_at=NOW - HOUR)
    asked = a_task("t2", status=Status.EXPIRED, guessed=True, due_at=NOW + MINUTE, deadline_at=NOW - HOUR)
    for task in (expired, asked):
        await store.intake.add(task, [an_input()], None)
    async with store.units_of_work.transaction() as transaction:
        await transaction.admit([an_entry("d1", received_at=NOW - HOUR)])
    assert await store.retention.prune(before=NOW - MINUTE) == 2
    assert not await store.blobs.load(expired.id)
    assert await store.blobs.load(asked.id)


async def test_prune_goes_in_portions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is to be forgotten, no transaction takes more than a portion of it; all of it goes."""
    monkeypatch.setattr(retention, "ROWS_PER_DELETE", 2)
    await add_tasks(store, a_task("t1", status=Status.COMPLETED, due_at=None, settled_at=NOW - HOUR))
    async with store.units_of_work.transaction() as transaction:
        await transaction.admit([an_entry(f"d{number}", received_at=NOW - HOUR) for number in range(5)])
    assert await store.retention.prune(before=NOW) == 5
    assert (await store.health.gauges(NOW)).callbacks == {}
