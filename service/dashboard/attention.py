"""The front page: what needs attention, and the latest tasks."""

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import QueryParams
from service.dashboard.layout import Layout, Page
from service.domain.ports.tasks import TaskFilter
from service.domain.task_view import task_json

LATEST = 12
UNSHOWN = frozenset({"notify", "hinted_fact", "metadata"})


@dataclass(frozen=True, kw_only=True)
class AttentionPage:
    """The page at `/`."""

    layout: Layout
    services: Services

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [self.layout.route("/", get=self.show)]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show what needs attention, then the latest tasks."""
        query = QueryParams(request, "format")
        query.reject_errors()
        wanted = TaskFilter(client=caller.scope, limit=LATEST, without=UNSHOWN)
        tasks = await self.services.notes.noted(await self.services.queries.tasks(replace(wanted)))
        return Page(
            template="attention.html",
            title="What needs attention",
            values={"tasks": tasks},
            data={"latest": [task_json(task) for task in tasks]},
        )
