"""Vidu's task list: filtered by creation time, state, id, resolution, model and template, newest first, in pages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.bodies import listed_body
from service.sandbox.provider_shapes import ProviderShape, Refused
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task
from service.sandbox.vidu_models import MODELS

_MIN_SIZE, _MAX_SIZE = 10, 100
_FILTERS: Mapping[str, Callable[[Task], set[str]]] = {
    "states": lambda task: {str(task.state)},
    "task_ids": lambda task: {task.id},
    "resolutions": lambda task: {task.spec.resolution},
    "model_versions": lambda task: {task.model, MODELS[task.model].version},
    "templates": lambda task: {task.spec.template},
}
"""The values of a task that each filter compares."""


@dataclass(kw_only=True, slots=True)
class TaskList:
    """Serve `GET /tasks` in Vidu's shape."""

    state: SandboxState
    shape: ProviderShape
    signer: UrlSigner
    authenticate: Callable[[Request], str]

    async def __call__(self, request: Request) -> Response:
        """Return `tasks` and the token of the next page, "" on the last one."""
        self.state.billing.requests["list"] += 1
        try:
            self.authenticate(request)
            return JSONResponse(self._page(request.query_params))
        except Refused as refused:
            trace = self.state.trace(f"list/{self.state.billing.requests['list']}")
            return self.shape.error_response(refused, trace)

    def _page(self, query: QueryParams) -> dict[str, object]:
        size = _whole(query, "pagesz", _MIN_SIZE)
        if not _MIN_SIZE <= size <= _MAX_SIZE:
            raise Refused("FieldInvalid", f"field paper.pagesz is {_MIN_SIZE} to {_MAX_SIZE}")
        matching = list(filter(_filter(query), reversed(self.state.tasks.values())))
        start = _whole(query, "page_token", _whole(query, "page", 0) * size)
        end = start + size
        tasks = [listed_body(task, self.signer) for task in matching[start:end]]
        return {"tasks": tasks, "next_page_token": str(end) if end < len(matching) else ""}


def _filter(query: QueryParams) -> Callable[[Task], bool]:
    """Return a function that tests whether a task matches each filter of the query."""
    wanted = {name: _values(query, name) for name in _FILTERS}
    since = _time(query, "created_at.from", datetime.min.replace(tzinfo=UTC))
    until = _time(query, "created_at.to", datetime.max.replace(tzinfo=UTC))

    def matches(task: Task) -> bool:
        if task.provider != "vidu" or not since <= task.created_at <= until:
            return False
        return all(not wanted[name] or wanted[name] & of_task(task) for name, of_task in _FILTERS.items())

    return matches


def _values(query: QueryParams, name: str) -> set[str]:
    """Return the values of a filter, which is repeated or separated by commas."""
    return {value for given in query.getlist(name) for value in given.split(",") if value}


def _time(query: QueryParams, name: str, default: datetime) -> datetime:
    value = query.get(name)
    if not value:
        return default
    try:
        at = datetime.fromtimestamp(int(value), UTC) if value.isdecimal() else datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError) as error:
        raise Refused("FieldInvalid", f"field {name} is invalid") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _whole(query: QueryParams, name: str, default: int) -> int:
    """Read a number; Vidu's page names it with the prefix `paper.` and with the prefix `pager.`."""
    value = query.get(f"paper.{name}") or query.get(f"pager.{name}")
    if not value:
        return default
    if not value.isascii() or not value.isdigit():
        raise Refused("FieldInvalid", f"field paper.{name} is invalid")
    return int(value)
