"""Responses of the API from a real store match their models."""

from datetime import timedelta
from typing import Any

from service.api.schema_types import Page
from service.api.schemas import Delivery, HistoryEntry, Task, TaskWithPayload
from service.domain.ports.unit_of_work import PollRow
from service.domain.task import EventType, Source, Status, TaskError, UpstreamId, Usage
from service.domain.task_view import task_json
from service.storage import Store
from tests.storage.builders import (
    NOW,
    SECOND,
    a_delivery,
    a_task,
    add_callbacks,
    add_tasks,
    an_attempt,
    an_entry,
    an_event,
    claim_deliveries,
)
from tests.unit.api.fakes import FakeApplication, app_of, client_of

ARTIFACT = {"url": "u", "archived_url": "a", "media_type": "video/mp4", "bytes": 1, "sha256": "ab" * 32}


async def _fill(store: Store) -> None:
    """Store a task with every kind of history: each event type, each outcome of an attempt."""
    task = a_task(
        status=Status.FAILED,
        upstream_id=UpstreamId("u1"),
        progress=1,
        output=({"type": "video", "url": "https://example.org/v.mp4", "more": 1},),
        error=TaskError(code="E1", message="no"),
        usage=Usage(cost="0.15", discount=0.5),
        settled_by=Source.POLL,
        submitted_at=NOW,
        settled_at=NOW + SECOND,
    )
    await add_tasks(store, task, a_task("t2"))
    with_artifact: dict[str, Any] = task_json(task) | {"artifact": ARTIFACT}
    events = [
        an_event(f"e{number}", type=kind, data=with_artifact if kind is EventType.ARTIFACT_STORED else task_json(task))
        for number, kind in enumerate(EventType)
    ]
    handlers = ("log", "webhook", "archive", "other")
    await add_callbacks(store, an_entry())
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_polls([PollRow(task_id=task.id, at=NOW, outcome="in_progress")])
        await transaction.append(events, [a_delivery(events[0], handler) for handler in handlers])
    for name, changes in (
        ("log", {}),
        ("webhook", {"outcome": "retry", "error": "503", "due_at": NOW + timedelta(hours=1)}),
        ("archive", {"outcome": "dead", "error": "404", "fault": "destination"}),
    ):
        [claim] = await claim_deliveries(store, name)
        await store.deliveries.finish([an_attempt(claim, **changes)])


async def test_responses_from_a_real_store_match_their_models(store: Store) -> None:
    """Tasks, all kinds of history entries and deliveries of each status match their models, key by key."""
    await _fill(store)
    app = app_of(FakeApplication(), queries=store.queries, blobs=store.blobs, deliveries=store.deliveries)
    async with client_of(app) as client:
        tasks = Page[Task].model_validate_json((await client.get("/v1/tasks")).content)
        TaskWithPayload.model_validate_json((await client.get("/v1/tasks/t1")).content)
        history = Page[HistoryEntry].model_validate_json((await client.get("/v1/tasks/t1/events")).content)
        deliveries = Page[Delivery].model_validate_json((await client.get("/v1/deliveries")).content)
        Delivery.model_validate_json((await client.get("/v1/deliveries/e0-log")).content)
    assert len(tasks.data) == 2
    kinds = [entry.root.kind for entry in history.data]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "created": 1,
        "event": len(EventType),
        "callback": 1,
        "poll": 1,
        "delivery": 4,
        "attempt": 3,
    }
    assert {each.status for each in deliveries.data} == {"pending", "delivered", "dead"}
