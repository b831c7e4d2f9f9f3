"""The filters of lists of tasks, and their bounded reads."""

from dataclasses import dataclass, replace

from service.api.authentication import Caller
from service.api.ports import WaitingNotes
from service.api.query_params import QueryParams
from service.domain.ports.tasks import TaskFilter, TaskQueries
from service.domain.search import search_terms
from service.domain.task import Status, Task

FILTERS = ("status", "model", "handler", "client", "since", "until", "q")
MAX_WINDOWS = 5
"""Bounded reads of one request: a page that needs more of them ends early, with a `next_cursor`."""


def task_filter(query: QueryParams, caller: Caller) -> TaskFilter:
    """Return the filter in a query, limited to what the caller may see; its faults are left in `query`."""
    client, text, since, until = query.text("client"), query.text("q"), query.time("since"), query.time("until")
    if client is not None and not caller.sees(client):
        query.fault("client", "only an admin may name another client")
    if since is not None and until is not None and since >= until:
        query.fault("until", "must be later than since")
    return TaskFilter(
        client=client if caller.scope is None else caller.scope,
        statuses=query.words("status", [each.value for each in Status]),
        model=query.text("model"),
        since=since,
        until=until,
        exact=text,
        terms=search_terms(text, query.text("handler")),
    )


@dataclass(kw_only=True)
class WindowReader:
    """Reads the tasks of one page; `rest` is where to continue if the last read ended before it had enough."""

    queries: TaskQueries
    notes: WaitingNotes
    wanted: TaskFilter
    _windows: int = 0
    _rest: str | None = None

    async def read(self, count: int, after: str | None) -> list[Task]:
        """Return at most `count` tasks after the task `after`, with what the queued ones wait for."""
        found: list[Task] = []
        position = after
        while len(found) < count:
            window = await self.queries.window(replace(self.wanted, limit=count - len(found), cursor=position))
            found += window.tasks
            position = self._rest = window.after
            self._windows += 1
            if position is None or self._windows >= MAX_WINDOWS:
                break
        return await self.notes.noted(found)

    def rest(self) -> str | None:
        """Return the id of the task to continue after, None at the end."""
        return self._rest
