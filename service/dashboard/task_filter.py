"""The filters of the list of tasks: in its address, in its links and in the forms of actions on all that match."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from starlette.requests import Request

from service.api.authentication import Caller
from service.api.query_params import QueryParams
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Status

NAMES = ("status", "model", "result", "client")
STATUSES = [each.value for each in Status]


@dataclass(frozen=True, kw_only=True)
class ListFilter:
    """What the list shows; an empty text is no condition. `result` is `none` for tasks that were paid without one."""

    status: str = ""
    model: str = ""
    result: str = ""
    client: str = ""

    def pairs(self, **changes: str) -> list[tuple[str, str]]:
        """Return the conditions as parameters, with `changes`."""
        values = {name: getattr(self, name) for name in NAMES} | changes
        return [(name, value) for name, value in values.items() if value]

    def address(self, **changes: str) -> str:
        """Return the address of the list with these conditions."""
        pairs = self.pairs(**changes)
        return f"/tasks?{urlencode(pairs)}" if pairs else "/tasks"

    def wanted(self, caller: Caller) -> TaskFilter:
        """Return the filter of a query: of the caller's own tasks, unless it sees all."""
        return TaskFilter(
            client=(self.client or None) if caller.sees_all else caller.name,
            status=self.status or None,
            model=self.model or None,
            without_result=self.result == "none",
        )

    @property
    def words(self) -> str:
        """Return the conditions for a person."""
        return ", ".join(f"{name} {value}" for name, value in self.pairs()) or "all tasks"


def read_filter(request: Request, *more: str) -> tuple[ListFilter, QueryParams]:
    """Return the filter in the address of a request, and its parameters, of which `more` are known too."""
    query = QueryParams(_without_empty(request), *NAMES, *more)
    return parsed(query), query


def parsed(query: QueryParams) -> ListFilter:
    """Return the filter in parameters; their faults are in `query`."""
    return ListFilter(
        status=query.choice("status", STATUSES) or "",
        model=query.text("model") or "",
        result=query.choice("result", ["none"]) or "",
        client=query.text("client") or "",
    )


def _without_empty(request: Request) -> Request:
    """Return the request without empty parameters: a form sends its empty fields too."""
    pairs = [(name, value) for name, value in request.query_params.multi_items() if value]
    return Request({**request.scope, "query_string": urlencode(pairs).encode()})


def with_pairs(request: Request, pairs: Sequence[tuple[str, str]]) -> Request:
    """Return a request whose parameters are `pairs`, such as the fields of a form."""
    wanted = [(name, value) for name, value in pairs if value]
    return Request({**request.scope, "query_string": urlencode(wanted).encode()})


def tabs(current: ListFilter, counts: dict[str, int]) -> list[tuple[str, str, int | None, bool]]:
    """Return the status tabs: word or empty for all, address, count, and whether it is the current one."""
    everything = sum(counts.values())
    found: list[tuple[str, str, int | None, bool]] = [
        ("", replace(current, status="").address(), everything, not current.status)
    ]
    for status in STATUSES:
        chosen = current.status == status
        if chosen or counts.get(status):
            found.append((status, current.address(status=status), counts.get(status, 0), chosen))
    return found
