"""The list of tasks: filters with counts, search, pages, and actions on the selection or on all that match."""

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import cursor_of
from service.dashboard.attention import UNSHOWN
from service.dashboard.bulk import ACTIONS
from service.dashboard.layout import Layout, Page
from service.dashboard.task_filter import NAMES, read_filter, tabs
from service.domain.models.catalog import known_models
from service.domain.ports.overview import MAX_COUNTED, Overview
from service.domain.task_view import task_json

ROWS = 50


@dataclass(frozen=True, kw_only=True)
class TaskListPage:
    """The page at `/tasks`."""

    layout: Layout
    services: Services
    overview: Overview

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [self.layout.route("/tasks", get=self.show)]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show one page of tasks, newest first."""
        current, query = read_filter(request, "cursor", "format")
        cursor = query.cursor("task")
        query.reject_errors()
        wanted = replace(current.wanted(caller), limit=ROWS + 1, cursor=cursor, without=UNSHOWN)
        found = await self.services.notes.noted(await self.services.queries.tasks(wanted))
        counts = await self.overview.newest_by_status(wanted)
        tasks = found[:ROWS]
        more = cursor_of("task", tasks[-1].id) if len(found) > ROWS else None
        values = {
            "tasks": tasks,
            "current": current,
            "names": NAMES,
            "tabs": tabs(current, dict(counts)),
            "bounded": sum(counts.values()) >= MAX_COUNTED,
            "most": MAX_COUNTED,
            "models": known_models(),
            "more": current.address(cursor=more) if more else None,
            "first": current.address() if cursor else None,
            "actions": [] if caller.read_only else ACTIONS,
        }
        data = {"data": [task_json(task) for task in tasks], "next_cursor": more, "newest_by_status": dict(counts)}
        return Page(template="task_list.html", title="Tasks", values=values, data=data)
