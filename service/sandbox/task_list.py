"""Answer Vidu's task list: by time of creation and state, newest first, page by page."""

from collections.abc import Callable
from datetime import UTC, datetime

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.bodies import native_body
from service.sandbox.provider_shapes import ProviderShape, Refused
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

_LEAST, _MOST = 10, 100


class TaskList:
    """Serve `GET /tasks` in Vidu's shape."""

    def __init__(
        self, state: SandboxState, shape: ProviderShape, signer: UrlSigner, admit: Callable[[Request], str]
    ) -> None:
        self._state = state
        self._shape = shape
        self._signer = signer
        self._admit = admit

    async def __call__(self, request: Request) -> Response:
        """Return `tasks` and, when there are more, `next_page_token`."""
        self._state.billing.requests["list"] += 1
        try:
            self._admit(request)
            return JSONResponse(self._page(request.query_params))
        except Refused as refused:
            trace = self._state.trace(f"list/{self._state.billing.requests['list']}")
            return self._shape.error_response(refused, trace)

    def _page(self, query: QueryParams) -> dict[str, object]:
        size = _whole(query, "pagesz", _LEAST)
        if not _LEAST <= size <= _MOST:
            raise Refused("FieldInvalid", f"field paper.pagesz is {_LEAST} to {_MOST}")
        found = list(filter(_filter(query), reversed(self._state.tasks.values())))
        start = _whole(query, "page_token", _whole(query, "page", 0) * size)
        rest = start + size
        tasks = [self._entry(task) for task in found[start:rest]]
        return {"tasks": tasks, "next_page_token": str(rest) if rest < len(found) else ""}

    def _entry(self, task: Task) -> dict[str, object]:
        return native_body(task, self._signer) | {"model": task.model, "created_at": task.created_at.isoformat()}


def _filter(query: QueryParams) -> Callable[[Task], bool]:
    """Return the test that a query's states and times make of a task."""
    states = {state for value in query.getlist("states") for state in value.split(",") if state}
    since = _time(query, "created_at.from", datetime.min.replace(tzinfo=UTC))
    until = _time(query, "created_at.to", datetime.max.replace(tzinfo=UTC))

    def fits(task: Task) -> bool:
        listed = task.provider == "vidu" and (not states or task.state in states)
        return listed and since <= task.created_at <= until

    return fits


def _time(query: QueryParams, name: str, default: datetime) -> datetime:
    value = query.get(name)
    if not value:
        return default
    try:
        at = datetime.fromisoformat(value)
    except ValueError as fault:
        raise Refused("FieldInvalid", f"field {name} is invalid") from fault
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _whole(query: QueryParams, name: str, default: int) -> int:
    """Read a number that Vidu's page writes with `paper.` and with `pager.`."""
    value = query.get(f"paper.{name}") or query.get(f"pager.{name}")
    if not value:
        return default
    if not value.isascii() or not value.isdigit():
        raise Refused("FieldInvalid", f"field paper.{name} is invalid")
    return int(value)
