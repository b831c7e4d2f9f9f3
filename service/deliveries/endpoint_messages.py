"""What is posted to an endpoint without a stored delivery: a test event, or an operator event."""

from datetime import datetime, timedelta

from service.deliveries.tools import Event
from service.domain.endpoint import Endpoint
from service.domain.ports.unit_of_work import DeliveryClaim, EventRow
from service.domain.task import EventType, Json, TaskId
from service.domain.task_view import TaskView

TEST_EVENT = "endpoint.test"
"""The type of a test event: no task has events of this type."""


def unstored_claim(endpoint: Endpoint, target: Json, message_id: str, now: datetime) -> DeliveryClaim:
    """Return a claim on a delivery that is stored nowhere."""
    event = EventRow(
        id=message_id.replace("msg_", "evt_", 1),
        task_id=TaskId("test"),
        client=endpoint.client,
        type=EventType.COMPLETED,
        at=now,
        data={},
    )
    return DeliveryClaim(
        id=message_id,
        fence=0,
        attempt=1,
        handler=target["handler"],
        message_id=message_id,
        target=target,
        event=event,
        created_at=now,
    )


def endpoint_test_event(claim: DeliveryClaim) -> Event:
    """Return an event that looks like that of a completed task, and says in every part that it is a test.

    Where the target of `claim` has a body, the webhook handler posts that one, and nothing of this event.
    """
    now = claim.event.at
    task = TaskView(
        id="test",
        model="test",
        status="completed",
        upstream_id=None,
        params={},
        metadata={"test": True},
        progress=1.0,
        note="This is a test event. No task was submitted.",
        created_at=now,
        submitted_at=now,
        settled_at=now,
        deadline_at=now + timedelta(hours=1),
    )
    return Event(
        id=claim.event.id, type=TEST_EVENT, at=now, task=task, metadata=task.metadata, client=claim.event.client
    )
