"""The filters of lists of tasks, and the bounded reads of lists of tasks and deliveries."""

from dataclasses import dataclass, replace

from service.api.authentication import Caller
from service.api.ports import WaitingNotes
from service.api.query_params import QueryParams
from service.domain.ports.tasks import DeliverySelection, DeliveryView, TaskFilter, TaskQueries
from service.domain.search import search_terms
from service.domain.task import Status, Task

FILTERS = ("status", "model", "handler", "client", "since", "until", "q")
FIRST_WINDOWS = 1
MAX_WINDOWS = 20
"""Bounded reads of the first page, and of one that continues: if more are needed, it ends early with a `next_cursor`.

The first page is quick at a million tasks too; whoever continues it searches further back at once.
"""


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
    """Reads the tasks of one page, which begins after the cursor of `wanted`.

    `rest` is where to continue if the last read ended before it had enough.
    """

    queries: TaskQueries
    notes: WaitingNotes
    wanted: TaskFilter
    _windows: int = 0
    _rest: str | None = None

    async def read(self, count: int, after: str | None) -> list[Task]:
        """Return at most `count` tasks after the task `after`, with what the queued ones wait for."""
        found: list[Task] = []
        position, max_windows = after, FIRST_WINDOWS if self.wanted.cursor is None else MAX_WINDOWS
        while len(found) < count:
            window = await self.queries.window(replace(self.wanted, limit=count - len(found), cursor=position))
            found += window.tasks
            position = self._rest = window.after
            self._windows += 1
            if position is None or self._windows >= max_windows:
                break
        return await self.notes.noted(found)

    def rest(self) -> str | None:
        """Return the id of the task to continue after, None at the end."""
        return self._rest


@dataclass(kw_only=True)
class DeliveryReader:
    """Reads the deliveries of one page; `rest` as in `WindowReader`."""

    queries: TaskQueries
    wanted: DeliverySelection
    _windows: int = 0
    _rest: str | None = None

    async def read(self, count: int, after: str | None) -> list[DeliveryView]:
        """Return at most `count` deliveries after the delivery `after`."""
        found: list[DeliveryView] = []
        position, max_windows = after, FIRST_WINDOWS if self.wanted.cursor is None else MAX_WINDOWS
        while len(found) < count:
            window = await self.queries.deliveries(replace(self.wanted, limit=count - len(found), cursor=position))
            found += window.deliveries
            position = self._rest = window.after
            self._windows += 1
            if position is None or self._windows >= max_windows:
                break
        return found

    def rest(self) -> str | None:
        """Return the id of the delivery to continue after, None at the end."""
        return self._rest
