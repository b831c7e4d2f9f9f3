"""What only pages read: samples of health, prices, last attempts; on both databases."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from service.domain.ports.health_samples import SAMPLE
from service.domain.task import Source, Status, TaskId
from service.storage import Store, health_samples
from service.storage.async_engine import AsyncConnection
from tests.storage.builders import (
    NOW,
    SECOND,
    a_task,
    add_callbacks,
    add_deliveries,
    add_tasks,
    an_attempt,
    an_entry,
    claim_deliveries,
)
from tests.support.history import history_of

DAY = timedelta(days=1)
TIMES = [NOW - timedelta(hours=2), NOW - timedelta(hours=1), NOW + timedelta(hours=1)]


async def test_samples_are_bounded_and_in_their_points(store: Store) -> None:
    """The newest SAMPLE tasks of each point are read, of one client or of all; later and earlier ones are not."""
    early = [a_task(f"e{n}", created_at=TIMES[0] + timedelta(seconds=n)) for n in range(SAMPLE + 5)]
    await add_tasks(store, *early, a_task("now", client="bert"), a_task("old", created_at=TIMES[0] - SECOND))
    found = await store.health_samples.tasks(TIMES, client=None)
    assert [sum(each.point == point for each in found) for point in (0, 1)] == [SAMPLE, 1]
    assert min(each.created_at for each in found) == TIMES[0] + timedelta(seconds=5)
    assert [each.point for each in await store.health_samples.tasks(TIMES, client="bert")] == [1]


async def test_callbacks_before_and_after_the_end_are_distinct(store: Store) -> None:
    """The last callback up to the end, and the first one after it."""
    settled = a_task("t1", status=Status.COMPLETED, settled_at=NOW, settled_by=Source.POLL)
    await add_tasks(store, settled, a_task("t2", created_at=NOW - SECOND))
    times = [NOW - 3 * SECOND, NOW, NOW + 2 * SECOND, NOW + 5 * SECOND]
    entries = [an_entry(f"d{number}", received_at=at) for number, at in enumerate(times)]
    await add_callbacks(store, *entries)
    sample, waiting = await store.health_samples.tasks(TIMES, client=None)
    assert (sample.settled_by, sample.called_back_at, sample.late_callback_at) == ("poll", NOW, NOW + 2 * SECOND)
    assert (waiting.called_back_at, waiting.late_callback_at) == (None, None)


async def test_spend_of_days(store: Store) -> None:
    """A day that is over is read once an hour, today each time; a client has its own sum."""
    yesterday, today = (NOW - timedelta(days=1)).date(), NOW.date()
    await add_tasks(
        store,
        a_task("a", submitted_at=NOW, cost=0.5),
        a_task("b", submitted_at=NOW - timedelta(days=1), cost=2.0, client="bert"),
    )
    days = [yesterday, today]
    assert await store.health_samples.spend(days, NOW, client=None) == {yesterday: 2.0, today: 0.5}
    await add_tasks(store, a_task("c", submitted_at=NOW, cost=1.0), a_task("d", submitted_at=NOW - DAY, cost=1.0))
    assert await store.health_samples.spend(days, NOW, client=None) == {yesterday: 2.0, today: 1.5}
    later = await store.health_samples.spend(days, NOW + timedelta(hours=2), client=None)
    assert later == {yesterday: 3.0, today: 1.5}
    assert await store.health_samples.spend(days, NOW, client="bert") == {yesterday: 2.0, today: 0.0}


async def test_slow_connection_leaves_out_no_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for the days begins when the connection is there."""
    late = 0.0
    monkeypatch.setattr(health_samples, "time", SimpleNamespace(monotonic=lambda: late))

    async def connected_late(_connection: AsyncConnection) -> None:
        nonlocal late
        late = 2 * health_samples.SECONDS

    monkeypatch.setattr(health_samples, "allow_whole_tables", connected_late)
    assert await store.health_samples.spend([NOW.date()], NOW, client=None) == {NOW.date(): 0.0}


async def test_last_attempts_of_deliveries(store: Store) -> None:
    """Of each delivery the last ten are read, newest first; an unknown id is left out."""
    await add_deliveries(store, "log")
    for _ in range(12):
        [claim] = await claim_deliveries(store)
        await store.deliveries.finish([an_attempt(claim, "retry", error="503", due_at=NOW)])
    found = await store.delivery_details.details(["e1-log", "unknown"])
    assert list(found) == ["e1-log"]
    assert found["e1-log"].attempted == 12
    assert [each.number for each in found["e1-log"].attempts] == list(range(12, 2, -1))
    assert found["e1-log"].attempts[0].error == "503"


async def test_contents_of_deliveries(store: Store) -> None:
    """Each has its event with the caller's payload, and its target as it is stored; an unknown id is left out."""
    await add_deliveries(store, "log")
    found = await store.delivery_details.contents(["e1-log", "unknown"])
    assert list(found) == ["e1-log"]
    assert (found["e1-log"].handler, found["e1-log"].event.event.id) == ("log", "e1")
    assert (found["e1-log"].target, found["e1-log"].event.payload_bytes) == ({}, 0)
    assert await store.delivery_details.contents([]) == {}


async def test_newest_part_of_a_history(store: Store) -> None:
    """The newest deliveries with their attempts and an older one that is named; each entry as in the whole history."""
    handlers = [f"h{number}" for number in range(6)]
    await add_deliveries(store, *handlers)
    for name in handlers:
        [claim] = await claim_deliveries(store, name)
        await store.deliveries.finish([an_attempt(claim, "delivered")])
    task_id = TaskId("t1")
    whole = await history_of(store.queries, task_id, data=False)
    ids = [row["id"] for row in whole if row["kind"] == "delivery"]
    part = await store.delivery_details.task_history(task_id, limit=2, with_delivery=ids[0])
    chosen = {row["id"] for row in part if row["kind"] == "delivery"}
    assert (len(chosen), ids[0] in chosen) == (3, True)
    assert {row["delivery_id"] for row in part if row["kind"] == "attempt"} == chosen
    assert [row for row in whole if row in part] == part
    assert await store.delivery_details.task_history(task_id, limit=100, with_delivery=None) == whole


async def test_prices_of_one_model(store: Store) -> None:
    """The dearest of the newest costs of each bucket; another model and implausible costs are left out."""
    buckets = {"a": ("m/5", 0.2), "b": ("m/5", 0.3), "c": ("m/8", 900.0), "d": ("other/5", 0.4)}
    await add_tasks(store, *(a_task(name, bucket=bucket, cost=cost) for name, (bucket, cost) in buckets.items()))
    assert await store.prices.known("m", each=1.0) == {"m/5": 0.3}
    assert await store.prices.known("none", each=1.0) == {}
