"""Answers as JSON, the same way everywhere."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from starlette.responses import Response

from service.api.problems import encoded
from service.domain.ports.tasks import BlobStore, DeliveryView
from service.domain.task import Json, Task
from service.domain.task_view import rfc3339, task_json


def json_response(data: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `data` as an `application/json` answer."""
    return Response(encoded(data), status, dict(headers or {}), "application/json")


def page_answer(rows: list[Json], next_cursor: str | None) -> Response:
    """Return one page of a list; `next_cursor` None means the last one."""
    return json_response({"data": rows, "next_cursor": next_cursor})


async def task_object(task: Task, blobs: BlobStore) -> Json:
    """Return the task object with the caller's own payload, which is looked up, as single-task answers carry it."""
    return whole_task(task, await blobs.payload(task.id))


def whole_task(task: Task, payload: str | None) -> Json:
    """Return the task object with the caller's own payload."""
    return task_json(task) | {"payload": payload}


def delivery_object(delivery: DeliveryView) -> Json:
    """Return the delivery object of the API, times as RFC 3339."""
    plain = asdict(delivery)
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in plain.items()}
