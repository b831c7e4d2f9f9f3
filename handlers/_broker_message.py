"""An event as a CloudEvents 1.0 message for a broker: below 64 KB, as headers and body or as one JSON text."""

import json
from dataclasses import dataclass
from typing import Any

from cloudevents.core.bindings import http, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from service import Event, Reject

MAX_DATA = 60_000
"""Bytes of an event's data: attributes and headers then fit below 64 KB."""

STRUCTURED_TYPE = "application/cloudevents+json"
DATA_TYPE = "application/json"


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is published. `id` is for deduplication: the delivery's, which a replay has anew; `event.id` stays.

    `type` is the type without the prefix, such as `task.completed`, and `task_id` the task whose events stay in order.
    """

    id: str
    type: str
    task_id: str
    cloud_event: CloudEvent

    def structured(self) -> bytes:
        """Return attributes and data as one JSON text of the type STRUCTURED_TYPE."""
        return JSONFormat().write(self.cloud_event)

    def nats_binary(self) -> tuple[dict[str, str], bytes]:
        """Return headers and body for NATS: values are percent-encoded as in HTTP, DATA_TYPE is an attribute too.

        Only a content type of CloudEvents makes a NATS message a structured one.
        """
        message = http.to_binary(self.cloud_event, JSONFormat())
        return {**message.headers, "ce-datacontenttype": DATA_TYPE}, message.body

    def rabbitmq_binary(self) -> tuple[dict[str, str], bytes]:
        """Return headers and body for AMQP 0-9-1; DATA_TYPE is the content type of the message."""
        message = rabbitmq.to_binary(self.cloud_event, JSONFormat())
        return message.headers, message.body


def message_of(event: Event, message_id: str, *, source: str, type_prefix: str) -> Message:
    """Return the message for an event; raises Reject for one that cannot be made small enough."""
    attributes = {
        "id": event.id,
        "source": source,
        "type": f"{type_prefix}.{event.type}",
        "subject": event.task.id,
        "time": event.at,
        "datacontenttype": DATA_TYPE,
    }
    cloud_event = CloudEvent(attributes, _data(event))
    return Message(id=message_id, type=event.type, task_id=event.task.id, cloud_event=cloud_event)


def _data(event: Event) -> dict[str, Any]:
    """Return the data that webhooks have too; of what is too large only the size, the largest part first."""
    task = event.task.to_json()
    data: dict[str, Any] = {"task": task, "payload": event.payload, "metadata": event.metadata, "client": event.client}
    if event.artifact:
        data["artifact"] = vars(event.artifact)
    sizes = {"payload": _size(event.payload), "metadata": _size(event.metadata), "params": _size(task.get("params"))}
    for part in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if _size(data) <= MAX_DATA:
            break
        for holder in (data, task):
            if part in holder:
                holder[part] = None
        data |= {f"{part}_bytes": sizes[part], f"{part}_url": f"/v1/tasks/{event.task.id}"}
    if _size(data) > MAX_DATA:
        raise Reject(f"the event has more than {MAX_DATA} bytes without payload, metadata and parameters")
    return data


def _size(value: object) -> int:
    return len(json.dumps(value))
