"""Sample events, which are clearly marked: for tests of handlers, and for the test event of a handler."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from service.deliveries.tools import Event
from service.domain.artifact import Artifact
from service.domain.ports.unit_of_work import DeliveryClaim, EventRow
from service.domain.task import EventType, Json, TaskId
from service.domain.task_view import TaskView

SAMPLE_AT = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLE_VIDEO = "https://example.com/sample.mp4"

STATUSES = {
    "task.submitted": "in_progress",
    "task.progressed": "in_progress",
    "task.in_doubt": "in_doubt",
    "task.failed": "failed",
    "task.canceled": "canceled",
    "task.expired": "expired",
}
"""The status of the task of each event; that of the others is `completed`."""

_numbers = count(1)


def sample_task(type_: str = "task.completed", *, at: datetime = SAMPLE_AT, **changes: Any) -> TaskView:
    """Return a task as it is at an event of this type; `changes` are further fields of `TaskView`."""
    status = STATUSES.get(type_, "completed")
    completed = status == "completed"
    fields: dict[str, Any] = {
        "id": f"sample-task-{next(_numbers)}",
        "model": "viduq2_pro_reference",
        "status": status,
        "upstream_id": "sample-upstream-id",
        "params": {"prompt": "This is a test.", "duration": 5},
        "metadata": {"sample": True},
        "progress": 1.0 if completed else 0.5,
        "output": [{"type": "video", "url": SAMPLE_VIDEO}] if completed else [],
        "error": {"kind": "content", "code": "sample", "message": "a sample error"} if status == "failed" else None,
        "note": "test event of Boomerang",
        "created_at": at - timedelta(minutes=2),
        "submitted_at": at - timedelta(minutes=1),
        "settled_at": at if status in {"completed", "failed", "canceled"} else None,
        "deadline_at": at + timedelta(hours=2),
    }
    return TaskView(**(fields | changes))


def sample_event(
    type_: str = "task.completed",
    *,
    task: TaskView | None = None,
    at: datetime = SAMPLE_AT,
    payload: str | None = None,
    artifact: Artifact | None = None,
    client: str = "sample",
) -> Event:
    """Return an event of this type about a sample task, or about `task`."""
    kind = EventType(type_)
    task = task or sample_task(type_, at=at)
    if artifact is None and kind is EventType.ARTIFACT_STORED:
        artifact = Artifact(
            url=SAMPLE_VIDEO, archived_url="file:///sample.mp4", media_type="video/mp4", bytes=1, sha256="0" * 64
        )
    return Event(
        id=f"sample-event-{next(_numbers)}",
        type=kind.value,
        at=at,
        task=task,
        payload=payload,
        metadata=task.metadata,
        artifact=artifact,
        client=client,
    )


def claim_of(event: Event, handler: str, target: Json, *, attempt: int = 1) -> DeliveryClaim:
    """Return the claim of a delivery of `event` that is in no database."""
    data = event.task.to_json() | ({"artifact": vars(event.artifact)} if event.artifact else {})
    return DeliveryClaim(
        id=f"sample-delivery-{event.id}",
        fence=1,
        attempt=attempt,
        handler=handler,
        message_id=f"msg_{event.id}",
        target=target,
        event=EventRow(
            id=event.id,
            task_id=TaskId(event.task.id),
            client=event.client,
            type=EventType(event.type),
            at=event.at,
            data=data,
        ),
        payload=event.payload,
        created_at=event.at,
    )
