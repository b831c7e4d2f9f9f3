"""Events as the event stream shows them: the body of a webhook, with the number of the event in the log."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from service.domain.error_kinds import with_error_kind
from service.domain.ports.unit_of_work import EventRow
from service.domain.task import EventType, Json, TaskId
from service.domain.task_view import rfc3339

MAX_PAYLOAD = 64 * 1024
"""Bytes up to which an event contains the caller's payload, as in a webhook."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EventHead:
    """What decides who sees an event. Numbers (`seq`) start at 1 and grow with each commit, with gaps.

    `type` is None for one that only a later release knows.
    """

    seq: int
    client: str
    task_id: TaskId
    type: EventType | None


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """An event with its number in the log.

    `payload` is the caller's own if it has at most MAX_PAYLOAD bytes, `payload_bytes` its size (0 for none).
    """

    seq: int
    event: EventRow
    payload: str | None = None
    payload_bytes: int = 0

    @cached_property
    def body(self) -> str:
        """Return the event as JSON text; it is made once for all readers.

        It is ASCII: several readers of event streams take U+2028 and the like for the end of a line.
        """
        task = {name: value for name, value in with_error_kind(self.event.data).items() if name != "artifact"}
        return json.dumps(self.to_json(task), separators=(",", ":"))

    def to_json(self, task: Json) -> Json:
        """Return the body of a webhook for this event; `task` is the task object that it contains."""
        row = self.event
        payload = payload_fields(self.payload, self.payload_bytes, row.task_id)
        metadata = task.get("metadata") or {}
        return event_body(
            row.id, row.type.value, row.at, task=task, payload=payload, metadata=metadata, client=row.client
        )


def event_body(
    event_id: str, event_type: str, at: datetime, *, task: Json, payload: Json, metadata: Json, client: str
) -> Json:
    """Return the body of a webhook; `payload` has the fields of `payload_fields`."""
    data = {"task": task, **payload, "metadata": metadata, "client": client}
    return {"id": event_id, "type": event_type, "timestamp": rfc3339(at), "data": data}


def payload_fields(payload: str | None, size: int, task_id: str) -> Json:
    """Return the caller's payload of `size` bytes, or for a long one its size and the path at which the task has it."""
    if size <= MAX_PAYLOAD:
        return {"payload": payload}
    return {"payload": None, "payload_bytes": size, "payload_url": f"/v1/tasks/{task_id}"}


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Which events a listener gets: of one client (None: of all), of some tasks and of some types (none: of all)."""

    client: str | None = None
    tasks: frozenset[TaskId] = frozenset()
    types: frozenset[EventType] = frozenset()

    def matches(self, head: EventHead) -> bool:
        """Return whether the listener gets this event."""
        return (
            head.type is not None
            and self.client in {None, head.client}
            and (not self.tasks or head.task_id in self.tasks)
            and (not self.types or head.type in self.types)
        )
