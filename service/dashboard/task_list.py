"""The list of tasks."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import QueryParams, cursor_of
from service.dashboard.attention import UNSHOWN
from service.dashboard.layout import Layout, Page
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Status

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
        query = QueryParams(request, "status", "model", "cursor", "format")
        wanted = TaskFilter(
            client=caller.scope,
            status=query.choice("status", [each.value for each in Status]),
            model=query.text("model"),
            limit=ROWS + 1,
            cursor=query.cursor("task"),
            without=UNSHOWN,
        )
        query.reject_errors()
        found = await self.services.notes.noted(await self.services.queries.tasks(wanted))
        tasks = found[:ROWS]
        more = cursor_of("task", tasks[-1].id) if len(found) > ROWS else None
        return Page(
            template="task_list.html", title="Tasks", values={"tasks": tasks, "more": more}, json_url="/v1/tasks"
        )
