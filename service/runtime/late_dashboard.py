"""The dashboard, which is imported and built when a browser first asks for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from service.api.authentication import Pages
from service.api.late_routes import LateRoutes
from service.api.problems import Problem

SECTIONS = ("assets", "audit", "deliveries", "endpoints", "health", "new", "sign-in", "sign-out", "tasks")
"""The first parts of the paths of pages."""


@dataclass(kw_only=True)
class LateDashboard:
    """Implements `Pages` by what `build` returns."""

    build: Callable[[], Pages]

    @cached_property
    def _pages(self) -> Pages:
        return self.build()

    def routes(self) -> Sequence[Route]:
        """Return one route that stands for those of all pages."""
        return [LateRoutes(rf"^/(?:(?:{'|'.join(SECTIONS)})(?:/.*)?)?$", self._page_routes)]

    def _page_routes(self) -> Sequence[Route]:
        return self._pages.routes()

    async def session(self, request: Request) -> tuple[str, str] | None:
        """Return the key id and the id of the session of a request, None without a valid one."""
        return await self._pages.session(request) if request.cookies else None

    def problem_page(self, problem: Problem, scope: Scope) -> Response:
        """Return a page of a problem that is not one of a page."""
        return self._pages.problem_page(problem, scope)
