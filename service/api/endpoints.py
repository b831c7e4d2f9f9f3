"""Helpers of all endpoints: routes, JSON responses and the objects in them."""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.domain.ports.tasks import BlobStore
from service.domain.task import Json, Task
from service.domain.task_view import task_json

CALLBACK_PREFIX = "/callbacks/"
HANDLER_PREFIX = "/handlers/"
"""Begin the paths that need no API key."""
LINK_PREFIX = "/links/"
"""The beginning of signed links, whose token takes the place of a key."""

Endpoint = Callable[[Request], Awaitable[Response]]


def route(path: str, *, get: Endpoint | None = None, post: Endpoint | None = None) -> Route:
    """Return the route of `path` for the given methods; HEAD is served like GET, and OPTIONS names the methods.

    A path has one route, so that a 405 names every allowed method.
    """
    methods = {name: each for name, each in (("GET", get), ("POST", post)) if each is not None}

    allowed = ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if get else [])}))

    async def dispatch(request: Request) -> Response:
        request.state.route = path.rstrip("/") or path
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method](request)

    return Route(path, dispatch, methods=[*methods, "OPTIONS"])


def encode_json(data: object) -> bytes:
    """Return `data` as compact JSON in UTF-8; a lone surrogate becomes its JSON escape."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def json_response(data: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `data` as an `application/json` response."""
    return Response(encode_json(data), status, headers, "application/json")


async def task_object(task: Task, blobs: BlobStore) -> Json:
    """Return the task object of single-task responses, with the caller's payload read from `blobs`."""
    return task_json(task) | {"payload": await blobs.payload(task.id)}
