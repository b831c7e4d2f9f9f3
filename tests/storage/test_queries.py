"""Read queries: lists and history, without reading a blob."""

from dataclasses import replace
from typing import Any

import pytest

from service.domain.ports.deliveries import DeliverySelection, DeliveryView
from service.domain.ports.tasks import IdempotencyKey, TaskFilter
from service.domain.ports.unit_of_work import PollRow
from service.domain.task import Status, TaskId
from service.domain.task_view import rfc3339
from service.storage import Store
from tests.storage.builders import (
    NOW,
    SECOND,
    a_blob,
    a_task,
    add_deliveries,
    add_tasks,
    admitted,
    an_attempt,
    an_entry,
    an_event,
    claim_deliveries,
    in_progress,
)
from tests.storage.emitted import emitted
from tests.support.history import history_of


async def test_unknown_task_is_none(store: Store) -> None:
    """An unknown id returns None and an empty history."""
    assert await store.queries.task(TaskId("nobody")) is None
    assert await history_of(store.queries, "nobody") == []


async def _ids(store: Store, wanted: TaskFilter) -> list[str]:
    return [task.id for task in await store.queries.tasks(wanted)]


async def test_tasks_are_listed_newest_first_page_by_page(store: Store) -> None:
    """Pages follow each other without gap or repeat, also among tasks with the same time."""
    tasks = [a_task(f"t{number}", created_at=NOW + (number // 3) * SECOND) for number in range(7)]
    await add_tasks(store, *tasks)
    seen: list[str] = []
    while page := await _ids(store, TaskFilter(limit=2, cursor=seen[-1] if seen else None)):
        seen += page
    assert seen == ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]
    assert await _ids(store, TaskFilter(cursor="nobody")) == []


async def test_tasks_are_listed_oldest_first_on_request(store: Store) -> None:
    """Pages follow each other in the other order, too."""
    await add_tasks(store, *(a_task(f"t{number}", created_at=NOW + (number // 3) * SECOND) for number in range(5)))
    seen: list[str] = []
    while page := await _ids(store, TaskFilter(limit=2, cursor=seen[-1] if seen else None, oldest_first=True)):
        seen += page
    assert seen == ["t0", "t1", "t2", "t3", "t4"]


async def test_newest_task_is_found_by_the_beginning_of_its_key(store: Store) -> None:
    """Of one client, since a time; the text is no pattern."""
    for number in range(4):
        key = IdempotencyKey(key=f"\x1fvideos/a%{number // 3}/{number}", digest="d")
        await store.intake.add(a_task(f"t{number}", created_at=NOW + number * SECOND), [], key)
    find, client = store.queries.newest_with_key, a_task("t0").client
    assert getattr(await find(client, "\x1fvideos/a%0/", NOW), "id", None) == "t2"
    assert await find(client, "\x1fvideos/a%0/", NOW + 3 * SECOND) is None
    assert await find("berta", "\x1fvideos/a%0/", NOW) is None
    assert await find(client, "\x1fvideos/%", NOW) is None


async def test_ended_tasks_are_found_by_id(store: Store) -> None:
    """Of many ids those of settled and expired tasks are returned; unknown ones are not."""
    ended = {"completed": "t1", "failed": "t2", "canceled": "t3", "expired": "t4"}
    await add_tasks(store, *(a_task(each, status=Status(status)) for status, each in ended.items()), in_progress("t5"))
    wanted = [TaskId(each) for each in [*ended.values(), "t5", *(f"nobody{number}" for number in range(1500))]]
    assert sorted(await store.queries.ended(wanted)) == sorted(ended.values())
    assert await store.queries.ended([]) == []


async def test_tasks_are_filtered(store: Store) -> None:
    """Client, status and model each filter the list, and combine."""
    await add_tasks(
        store,
        a_task("t1"),
        a_task("t2", client="berta"),
        a_task("t3", model="other"),
        in_progress("t4"),
    )
    assert await _ids(store, TaskFilter(client="berta")) == ["t2"]
    assert await _ids(store, TaskFilter(status="in_progress")) == ["t4"]
    assert await _ids(store, TaskFilter(model="other", client="anna", status="queued")) == ["t3"]
    assert await _ids(store, TaskFilter(status="x' OR '1'='1")) == []


async def test_listing_never_reads_a_blob(store: Store) -> None:
    """No read query names the inputs, or the body of a callback; the beginning of a receiver's answer is small."""
    await store.intake.add(a_task(), [a_blob(data=bytes(1_000_000))], None)
    async with store.units_of_work.transaction() as transaction:
        await admitted(transaction, [an_entry(body=b"secret body")])
    with emitted(store) as statements:
        await store.queries.tasks(TaskFilter())
        await store.queries.task(TaskId("t1"))
        await history_of(store.queries, "t1")
        await store.queries.deliveries(DeliverySelection(limit=9))
        await store.health.gauges(NOW)
    assert len(statements) >= 10
    assert [one.sql for one in statements if "inputs" in one.sql or "body" in one.sql.replace("answer_body", "")] == []


async def test_history_has_every_row_in_order(store: Store) -> None:
    """Events, callbacks, polls, deliveries and attempts come oldest first, as plain JSON without any body."""
    await add_tasks(store, a_task(created_at=NOW - 3 * SECOND))
    async with store.units_of_work.transaction() as transaction:
        await admitted(transaction, [an_entry(received_at=NOW - SECOND, verdict="hint")])
        await transaction.add_polls([PollRow(task_id=TaskId("t1"), at=NOW - 2 * SECOND, outcome="in_progress")])
        await transaction.append([an_event("e0", task_id=TaskId("t2"))], [])
    await add_deliveries(store, "log")
    [claim] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(claim, started_at=NOW + SECOND, error="was slow")])
    history = await history_of(store.queries, "t1")
    assert [row["kind"] for row in history] == ["created", "poll", "callback", "event", "delivery", "attempt"]
    _, poll, callback, event, delivery, attempt = history
    assert poll == {"at": rfc3339(NOW - 2 * SECOND), "kind": "poll", "outcome": "in_progress"}
    assert callback == {"at": rfc3339(NOW - SECOND), "kind": "callback", "submission": 1, "verdict": "hint"}
    assert (event["id"], event["type"], event["data"]) == ("e1", "task.completed", {"id": "t1"})
    assert (delivery["id"], delivery["status"], delivery["finished_at"]) == (
        "e1-log",
        "delivered",
        rfc3339(NOW + SECOND),
    )
    assert (attempt["delivery_id"], attempt["attempt"], attempt["error"]) == ("e1-log", 1, "was slow")


async def _deliveries(store: Store, **filters: Any) -> list[DeliveryView]:
    """Return all deliveries that pass the filters, over all windows."""
    found: list[DeliveryView] = []
    window = await store.queries.deliveries(DeliverySelection(**filters))
    while window.after is not None:
        found += window.deliveries
        window = await store.queries.deliveries(DeliverySelection(**{**filters, "cursor": window.after}))
    return [*found, *window.deliveries]


async def test_deliveries_are_listed_newest_first_and_filtered(store: Store) -> None:
    """Status, handler and client filter the list; a cursor continues after its row."""
    async with store.units_of_work.transaction() as transaction:
        events = [an_event("e1"), an_event("e2", at=NOW + SECOND), an_event("e3", client="berta", at=NOW + 2 * SECOND)]
        await transaction.append(events, [])
    await add_deliveries(store, "log", events=["e1", "e2"])
    await add_deliveries(store, "webhook", events=["e1"])
    [claim] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(claim, "dead", fault="destination")])
    assert [view.id for view in await _deliveries(store)] == ["e2-log", "e1-webhook", "e1-log"]
    assert [view.id for view in await _deliveries(store, cursor="e1-webhook")] == ["e1-log"]
    assert [view.id for view in await _deliveries(store, status="dead")] == ["e1-log"]
    assert [view.id for view in await _deliveries(store, status="pending", handler="log")] == ["e2-log"]
    assert await _deliveries(store, client="berta") == []
    assert await _deliveries(store, status="x' OR '1'='1") == []


@pytest.mark.parametrize("status", list(Status))
async def test_every_status_is_stored(store: Store, status: Status) -> None:
    """A task of each status is found by that status."""
    await add_tasks(store, a_task(status=status))
    [found] = await store.queries.tasks(TaskFilter(status=status.value))
    assert found.status is status


async def test_list_does_not_read_what_it_leaves_out(store: Store) -> None:
    """Fields that a list does not show are not read, and are empty in its tasks; all others are whole."""
    task = a_task(metadata={"a": 1}, notify=({"handler": "log"},), hinted_fact={"a": 1})
    await add_tasks(store, task)
    with emitted(store) as statements:
        [lean] = await store.queries.tasks(TaskFilter(without=frozenset({"metadata", "notify", "hinted_fact"})))
    assert lean == replace(task, metadata={}, notify=(), hinted_fact=None)
    assert not [one.sql for one in statements if "tasks.metadata" in one.sql or "tasks.notify" in one.sql]
    [with_metadata] = await store.queries.tasks(TaskFilter(without=frozenset({"notify"})))
    assert with_metadata == replace(task, notify=())


async def test_data_of_events_are_read_apart(store: Store) -> None:
    """A history without data has every row and no data; those of some events are read by their ids."""
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([an_event("e1"), an_event("e2", at=NOW + SECOND)], [])
    whole = await history_of(store.queries, "t1")
    lean = await history_of(store.queries, "t1", data=False)
    assert [row["id"] for row in lean] == [row["id"] for row in whole] == ["e1", "e2"]
    assert not any("data" in row for row in lean)
    assert await store.queries.event_data(["e2", "nobody"]) == {"e2": whole[1]["data"]}
