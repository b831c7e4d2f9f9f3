"""The list of tasks: filters with counts, search, pages, and actions on the selection or on all that match."""

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import cursor_of
from service.api.window_reader import task_reader
from service.dashboard.attention import UNSHOWN
from service.dashboard.bulk import ACTIONS
from service.dashboard.layout import Layout, Page
from service.dashboard.task_filter import read_filter, tabs
from service.domain.models.catalog import known_models
from service.domain.search import MAX_TEXT
from service.domain.task_view import task_json

ROWS = 50


@dataclass(frozen=True, kw_only=True)
class TaskListPage:
    """The page at `/tasks`."""

    layout: Layout
    services: Services

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [self.layout.route("/tasks", get=self.show)]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show one page of tasks, newest first."""
        pairs = request.query_params.multi_items()
        current, query = read_filter(request, caller, pairs, "cursor", "format")
        cursor = query.cursor("task")
        query.reject_errors()
        wanted = replace(current.wanted, without=UNSHOWN, cursor=cursor)
        reader = task_reader(self.services.queries, self.services.notes, wanted)
        found = await reader.read(ROWS + 1, cursor)
        counts = await self.services.queries.status_counts(replace(wanted, statuses=frozenset()))
        tasks = found[:ROWS]
        position = reader.position_after(tasks[-1].id) if len(found) > ROWS else reader.rest()
        more = cursor_of("task", position) if position else None
        values = {
            "tasks": tasks,
            "current": current,
            "tabs": list(tabs(current, counts)),
            "models": known_models(),
            "max_search": MAX_TEXT,
            "more": current.address(cursor=more) if more else None,
            "first": current.address() if cursor else None,
            "actions": [] if caller.read_only else ACTIONS,
        }
        by_status = {each.status: each.count for each in counts}
        data = {"data": [task_json(task) for task in tasks], "next_cursor": more, "counts": by_status}
        return Page(template="task_list.html", title="Tasks", values=values, data=data)
