"""Races between processes: expired leases, late results and concurrent locks lose and duplicate nothing."""

import pytest

from service.domain.task import Status
from service.storage import Store, retention
from tests.storage.builders import (
    HOUR,
    LEASE,
    MINUTE,
    NOW,
    a_blob,
    a_task,
    add_callbacks,
    add_deliveries,
    add_tasks,
    an_attempt,
    an_entry,
    claim_deliveries,
)

TIMEOUT = 5.0


async def test_late_result_in_a_batch_with_its_successor_is_ignored(store: Store) -> None:
    """A process suspended past its lease may finish one delivery twice in a batch: the newer claim's result counts."""
    await add_deliveries(store, "log")
    [early] = await claim_deliveries(store)
    [late] = await claim_deliveries(store, now=NOW + LEASE)
    for pair in ([early, late], [late, early]):
        results = [an_attempt(claim, "delivered" if claim is late else "dead") for claim in pair]
        assert await store.deliveries.finish(results) <= {late.id}
    found = await store.deliveries.delivery(late.id)
    assert found is not None
    assert (found.status, found.attempts) == ("delivered", 1)


async def test_prune_deletes_rows_of_long_expired_tasks(store: Store) -> None:
    """Media and callbacks of an expired task that is no longer polled are deleted like those of settled tasks."""
    expired = a_task("t1", status=Status.EXPIRED, guessed=True, due_at=None, deadline_at=NOW - HOUR)
    polled = a_task("t2", status=Status.EXPIRED, guessed=True, due_at=NOW + MINUTE, deadline_at=NOW - HOUR)
    for task in (expired, polled):
        await store.intake.add(task, [a_blob()], None)
    await add_callbacks(store, an_entry("d1", received_at=NOW - HOUR))
    assert await store.retention.prune(before=NOW - MINUTE) == 2
    assert not await store.blobs.load(expired.id)
    assert await store.blobs.load(polled.id)


async def test_prune_deletes_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transaction deletes a limited number of rows, until all are deleted."""
    monkeypatch.setattr(retention, "ROWS_PER_DELETE", 2)
    await add_tasks(store, a_task("t1", status=Status.COMPLETED, due_at=None, settled_at=NOW - HOUR))
    await add_callbacks(store, *[an_entry(f"d{number}", received_at=NOW - HOUR) for number in range(5)])
    assert await store.retention.prune(before=NOW) == 5
    assert (await store.health.gauges(NOW)).callbacks == {}
