"""Erasing a task: nothing that its client gave or got is left in any table; what identifies and prices it stays."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from service.domain.endpoint import Endpoint
from service.domain.erasure import NEVER_DELIVERED
from service.domain.errors import Conflict
from service.domain.ports.deliveries import DeliverySelection
from service.domain.ports.queues import Outcome, ReceiverAnswer
from service.domain.sealed_targets import SealedSecret
from service.domain.task import EventType, Status, Task, TaskError, TaskId, UpstreamId, Usage
from service.domain.task_view import task_json
from service.domain.task_wait import WaitRow
from service.storage import Store
from tests.storage.builders import (
    HOUR,
    NOW,
    SECOND,
    a_blob,
    a_delivery,
    a_task,
    add_callbacks,
    an_attempt,
    an_entry,
    an_event,
    claim_deliveries,
    replay,
    stored,
)
from tests.storage.conftest import EmptyDatabase
from tests.support.history import history_of
from tests.unit.api.fake_endpoints import an_endpoint
from tests.upgrade.rows import engine

SECRET = "a very private hedgehog"


def private_task(task_id: str = "t1", **changes: Any) -> Task:
    """Return a completed task that has the secret wherever a client or the provider can put text."""
    fields: dict[str, Any] = {
        "status": Status.COMPLETED,
        "upstream_id": UpstreamId(f"u-{task_id}"),
        "params": {"prompt": SECRET},
        "metadata": {"note": SECRET},
        "notify": ({"handler": "webhook", "url": f"https://example.org/{SECRET}"},),
        "output": ({"type": "video", "url": f"https://example.org/{SECRET}.mp4"},),
        "error": TaskError(code="E1", message=SECRET),
        "warnings": (SECRET,),
        "usage": Usage(cost="0.35"),
        "cost": 0.35,
        "settled_at": NOW,
        "submitted_at": NOW,
        "due_at": None,
        "note": SECRET,
        "hinted_fact": {"error": SECRET},
    }
    return a_task(task_id, **(fields | changes))


async def fill(store: Store, task: Task) -> None:
    """Store a task with everything that belongs to one."""
    blobs = [a_blob(data=SECRET.encode()), a_blob("payload", SECRET.encode())]
    await store.intake.add(task, blobs, None, [SealedSecret(id=f"s-{task.id}", task_id=task.id, sealed=SECRET)])
    event = an_event(f"e-{task.id}", task_id=task.id, data=task_json(task) | {"artifact": {"url": SECRET}})
    target = {"handler": "webhook", "url": SECRET}
    rows = [
        a_delivery(event, handler, id=f"{task.id}-{handler}", target=target if handler in {"webhook", "made"} else {})
        for handler in ("log", "made", "webhook", "slow")
    ]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], rows)
        wait = WaitRow(task_id=task.id, reason="not_sent", count=1, first_at=NOW, last_at=NOW, detail=SECRET)
        await transaction.add_task_waits([wait])
    for digest, verdict in (("read", "accepted"), ("new", "unread")):
        entry = an_entry(f"{digest}-{task.id}", task_id=task.id, body=SECRET.encode(), verdict=verdict)
        await add_callbacks(store, replace(entry, headers={"x": SECRET}))
    ends: list[tuple[str, Outcome]] = [("log", "dead"), ("made", "delivered")]
    for handler, outcome in ends:
        [claim] = [each for each in await claim_deliveries(store, handler) if each.event.task_id == task.id]
        answer = ReceiverAnswer(status=500, body=SECRET)
        result = an_attempt(claim, outcome, error=SECRET, fault="destination", answer=answer)
        await store.deliveries.finish([result])
    await store.search_index.advance()


def whole_database(database: EmptyDatabase) -> dict[str, str]:
    """Return every table as text."""
    connected = engine(database.url)
    try:
        with connected.connect() as connection:
            tables = sa.inspect(connected).get_table_names()
            return {
                name: repr(
                    [tuple(row) for row in connection.execute(sa.select(sa.text("*")).select_from(sa.table(name)))]
                )
                for name in tables
            }
    finally:
        connected.dispose()


async def test_no_table_has_anything_private_left(store: Store, database: EmptyDatabase) -> None:
    """Every text of the client and of the provider is gone; id, times, cost, status and history stay."""
    task = private_task()
    await fill(store, task)
    assert SECRET in whole_database(database)["inputs"]
    after = await store.eraser.erase(await stored(store), now=NOW + HOUR)
    tables = whole_database(database)
    private = {name for name, text in tables.items() if SECRET in text or SECRET.encode().hex() in text}
    assert private == set()
    assert tables["input_data"] == tables["search_words"] == "[]" or "hedgehog" not in tables["search_words"]
    assert (after.id, after.cost, after.usage, after.status) == ("t1", 0.35, Usage(cost="0.35"), Status.COMPLETED)
    assert (after.created_at, after.settled_at, after.erased_at) == (NOW, NOW, NOW + HOUR)
    assert after == await stored(store)
    history = await history_of(store.queries, "t1")
    kinds = sorted(entry["kind"] for entry in history)
    assert kinds == ["attempt"] * 2 + ["callback", "created"] + ["delivery"] * 4 + ["event", "wait"]


async def test_other_tasks_keep_everything(store: Store, database: EmptyDatabase) -> None:
    """Shared inputs stay while another task refers to them, and so does all that belongs to it."""
    await fill(store, private_task())
    await fill(store, private_task("t2"))
    before = await store.blobs.load(TaskId("t2"))
    await store.eraser.erase(await stored(store), now=NOW + HOUR)
    assert await store.blobs.load(TaskId("t1")) == {}
    assert await store.blobs.load(TaskId("t2")) == before
    assert (await stored(store, "t2")).params == {"prompt": SECRET}
    assert SECRET in whole_database(database)["events"]


async def test_pending_deliveries_have_a_clear_fate(store: Store) -> None:
    """What was not delivered is a dead letter with the reason, is never claimed, and cannot be replayed."""
    await fill(store, private_task())
    await store.eraser.erase(await stored(store), now=NOW + HOUR)
    found = (await store.queries.deliveries(DeliverySelection(status="dead", limit=10))).deliveries
    reasons = {each.handler: (each.last_error, each.fault, each.requested) for each in found}
    assert reasons == {
        "log": ("erased", "destination", False),
        "webhook": (NEVER_DELIVERED, "ours", True),
        "slow": (NEVER_DELIVERED, "ours", False),
    }
    assert await claim_deliveries(store, "log", "webhook", "slow", now=NOW + 2 * HOUR) == []
    assert await replay(store, *(each.id for each in found)) == []
    outcomes = await store.replays.replay([each.id for each in found], now=NOW)
    assert set(outcomes.values()) == {"erased"}


async def test_later_callbacks_of_an_erased_task_are_not_stored(store: Store, database: EmptyDatabase) -> None:
    """A failure of our own can be overruled, but not once the task is erased."""
    await fill(store, private_task(status=Status.FAILED, guessed=True))
    erased = await store.eraser.erase(await stored(store), now=NOW + HOUR)
    assert erased.final
    await store.inbox.store_unread([an_entry("late", task_id=TaskId("t1"), body=SECRET.encode(), verdict="unread")])
    assert "late" not in whole_database(database)["inbox"]


async def test_second_erasure_changes_nothing(store: Store) -> None:
    """The first time stays."""
    await fill(store, private_task())
    task = await stored(store)
    first = await store.eraser.erase(task, now=NOW + HOUR)
    assert await store.eraser.erase(task, now=NOW + 2 * HOUR) == first


@pytest.mark.parametrize("status", [Status.QUEUED, Status.SUBMITTING, Status.IN_PROGRESS, Status.IN_DOUBT])
async def test_unfinished_task_is_not_erased(store: Store, status: Status) -> None:
    """Something may still be recorded about it."""
    await store.intake.add(a_task(status=status), [a_blob()], None)
    with pytest.raises(Conflict, match=status.value):
        await store.eraser.erase(await stored(store), now=NOW)
    assert len(await store.blobs.load(TaskId("t1"))) == 1


async def test_expired_task_is_erased_once_it_is_not_polled(store: Store) -> None:
    """While its outcome is polled it is not."""
    await store.intake.add(a_task(status=Status.EXPIRED, due_at=NOW), [], None)
    with pytest.raises(Conflict, match="expired"):
        await store.eraser.erase(await stored(store), now=NOW)
    await store.intake.add(a_task("t2", status=Status.EXPIRED, due_at=None), [], None)
    assert (await store.eraser.erase(await stored(store, "t2"), now=NOW)).erased_at == NOW


async def test_running_delivery_holds_the_erasure_up(store: Store, database: EmptyDatabase) -> None:
    """A handler that runs with the task may still store a file of it."""
    await fill(store, private_task())
    await claim_deliveries(store, "slow")
    task = await stored(store)
    for call in (store.eraser.require_idle(task, now=NOW + SECOND), store.eraser.erase(task, now=NOW + SECOND)):
        with pytest.raises(Conflict, match="delivery"):
            await call
    assert SECRET in whole_database(database)["tasks"]
    await store.eraser.require_idle(task, now=NOW + HOUR)
    assert (await store.eraser.erase(task, now=NOW + HOUR)).erased_at


async def test_changed_result_stops_the_erasure(store: Store) -> None:
    """A file that was stored after the files were deleted would be left over."""
    await fill(store, private_task())
    task = await stored(store)
    with pytest.raises(Conflict, match="changed"):
        await store.eraser.erase(replace(task, output=()), now=NOW + HOUR)


async def test_erased_events_are_not_missed_by_an_endpoint(store: Store) -> None:
    """A replay of missed events makes no delivery of an erased task."""
    await fill(store, private_task())
    await fill(store, private_task("t2"))
    await store.eraser.erase(await stored(store), now=NOW + HOUR)
    found = await _missed(store, an_endpoint("x", client="anna"))
    assert found == ["e-t2"]


async def _missed(store: Store, endpoint: Endpoint) -> list[str]:
    found, _ = await store.endpoints.missed(endpoint, since=NOW - HOUR, until=NOW + HOUR, after=None, limit=50)
    return [each.id for each in found]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_words_that_are_added_meanwhile_are_deleted_too(store: Store, database: EmptyDatabase) -> None:
    """An erasure beside the step that adds the words of the task leaves none of them."""
    for number in range(8):
        task = private_task(f"t{number}")
        event = an_event(f"e{number}", task_id=task.id, type=EventType.SUBMITTED, data=task_json(task))
        await store.intake.add(task, [], None)
        async with store.units_of_work.transaction() as transaction:
            await transaction.append([event], [])
        await asyncio.gather(
            store.search_index.advance(), store.eraser.erase(await stored(store, task.id), now=NOW + HOUR)
        )
    await store.search_index.advance()
    assert whole_database(database)["search_words"] == "[]"
