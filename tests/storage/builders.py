"""Rows for a store: valid by default, so that each test names only what it checks."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from service.domain.blob import Blob
from service.domain.ports.queues import AttemptResult, HandlerCapacity, Outcome
from service.domain.ports.unit_of_work import DeliveryClaim, DeliveryRow, EventRow, InboxEntry, UnitOfWork
from service.domain.prices import Pricing
from service.domain.submission_limits import Limits
from service.domain.task import EventType, Fact, Status, Task, TaskId, UpstreamId
from service.storage import Store
from service.storage.bulk_writes import insert_many
from service.storage.tables import inbox

NOW = datetime(2026, 5, 6, 12, 9, 42, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LEASE = MINUTE
NO_LIMITS = Limits()


def a_task(task_id: str = "t1", **changes: Any) -> Task:
    """Return a queued task that is due."""
    task = Task(
        id=TaskId(task_id),
        client="anna",
        provider="vtrix",
        model="viduq2_pro_reference",
        bucket="short",
        created_at=NOW,
        deadline_at=NOW + 2 * HOUR,
        due_at=NOW,
    )
    return replace(task, **changes)


def a_blob(place: str = "images.0", data: bytes = b"pixels") -> Blob:
    """Return a blob."""
    return Blob(place=place, media_type="image/png", sha256=sha256(data).hexdigest(), data=data)


def an_entry(digest: str = "d1", **changes: Any) -> InboxEntry:
    """Return a raw callback."""
    entry = InboxEntry(
        task_id=TaskId("t1"), submission=1, digest=digest, body=b"{}", received_at=NOW, verdict="recorded"
    )
    return replace(entry, **changes)


async def admitted(transaction: UnitOfWork, entries: Sequence[InboxEntry]) -> list[str]:
    """Store callbacks; return for each `new`, `repeated`, `nonce_reused` or `settled`."""
    return (await transaction.receive({entry.task_id for entry in entries}, entries))[1]


async def add_callbacks(store: Store, *entries: InboxEntry) -> None:
    """Store callbacks with their verdicts, also of tasks that have ended since."""
    async with store._database.writing() as write:
        await insert_many(write.connection, inbox, [vars(entry) for entry in entries])


def an_event(event_id: str = "e1", **changes: Any) -> EventRow:
    """Return an event of task t1."""
    row = EventRow(
        id=event_id, task_id=TaskId("t1"), client="anna", type=EventType.COMPLETED, at=NOW, data={"id": "t1"}
    )
    return replace(row, **changes)


def a_delivery(event: EventRow, handler: str = "log", **changes: Any) -> DeliveryRow:
    """Return the delivery of `event` to `handler`, in the lane of its task and handler."""
    row = DeliveryRow(
        id=f"{event.id}-{handler}",
        event_id=event.id,
        task_id=event.task_id,
        client=event.client,
        handler=handler,
        lane=f"{event.task_id}/{handler}",
        message_id=f"msg_{event.id}_{handler}",
        due_at=NOW,
    )
    return replace(row, **changes)


def an_attempt(claim: DeliveryClaim, outcome: Outcome = "delivered", **changes: Any) -> AttemptResult:
    """Return the result of the claimed attempt."""
    result = AttemptResult(
        delivery_id=claim.id,
        fence=claim.fence,
        attempt=claim.attempt,
        started_at=NOW,
        finished_at=NOW + SECOND,
        outcome=outcome,
    )
    return replace(result, **changes)


async def add_tasks(store: Store, *tasks: Task) -> None:
    """Store tasks in their given status; a cost in their usage is their cost."""
    for task in tasks:
        cost = Pricing().cost(Fact(status=task.status, usage=task.usage)) if task.cost is None else task.cost
        await store.intake.add(replace(task, cost=cost), [], None)


async def add_deliveries(store: Store, *handlers: str, events: Sequence[str] = ("e1",), task_id: str = "t1") -> None:
    """Store events with a delivery to each of `handlers`."""
    rows = [an_event(event_id, task_id=TaskId(task_id)) for event_id in events]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(rows, [a_delivery(row, handler) for row in rows for handler in handlers])


async def claim_deliveries(store: Store, *names: str, now: datetime = NOW, limit: int = 100) -> list[DeliveryClaim]:
    """Claim due deliveries of the handler with `names`, `log` by default."""
    capacity = HandlerCapacity(names=names or ("log",), slots=limit)
    return await store.deliveries.claim([capacity], now=now, until=now + LEASE)


async def replay(store: Store, *ids: str, now: datetime = NOW) -> list[str]:
    """Replay single deliveries; return those that are due again, in the order of `ids`."""
    outcomes = await store.replays.replay(ids, now=now)
    return [one for one in dict.fromkeys(ids) if outcomes.get(one) == "replayed"]


async def claim_submissions(
    store: Store, *, now: datetime = NOW, limit: int = 100, limits: Limits = NO_LIMITS
) -> list[Task]:
    """Claim queued tasks that are due."""
    return await store.tasks.claim_submissions(now=now, until=now + LEASE, limit=limit, limits=limits)


async def claim_polls(store: Store, *, now: datetime = NOW, limit: int = 100) -> list[Task]:
    """Claim tasks to poll."""
    return await store.tasks.claim_polls(now=now, until=now + LEASE, limit=limit)


async def stored(store: Store, task_id: str = "t1") -> Task:
    """Return a task that must exist."""
    task = await store.queries.task(TaskId(task_id))
    assert task is not None
    return task


def in_progress(task_id: str = "t1", **changes: Any) -> Task:
    """Return a task that is in progress at the provider and due to be polled."""
    task = a_task(task_id, status=Status.IN_PROGRESS, submission=1, submitted_at=NOW, upstream_id=UpstreamId("u1"))
    return replace(task, **changes)
