"""Responses with one task: conditional, and with the time at which asking again makes sense."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from math import ceil

from starlette.requests import Request
from starlette.responses import Response

from service.api.endpoints import encode_json
from service.domain.task import Json, Status, Task

MIN_RETRY, MAX_RETRY = 1, 30
"""Bounds of `Retry-After` in seconds."""


def task_response(request: Request, body: Json, headers: Mapping[str, str]) -> Response:
    """Return a task with its `ETag`, or 304 where the client has this version of it."""
    data = encode_json(body)
    tag = f'"{sha256(data).hexdigest()[:32]}"'
    headers = {**headers, "ETag": tag}
    if _matches(request, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(data, headers=headers, media_type="application/json")


def retry_after(task: Task, now: datetime) -> dict[str, str]:
    """Return the header `Retry-After` of an unfinished task: until its next step is due; none for an ended one."""
    if task.settled or task.status is Status.EXPIRED:
        return {}
    seconds = ceil((task.due_at - now).total_seconds()) if task.due_at else MIN_RETRY
    return {"Retry-After": str(min(max(seconds, MIN_RETRY), MAX_RETRY))}


def _matches(request: Request, tag: str) -> bool:
    """Return whether If-None-Match names `tag` (RFC 9110, 13.1.2: the comparison is weak)."""
    for value in request.headers.getlist("if-none-match"):
        for part in value.split(","):
            if part.strip().removeprefix("W/") in {tag, "*"}:
                return True
    return False
