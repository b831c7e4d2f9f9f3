"""Parts of the application that are built at the first request for one of their paths."""

from unittest.mock import MagicMock

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service.api.drop_in_routes import drop_in_routes
from service.api.endpoints import route
from service.api.late_routes import LateRoutes
from service.dashboard.app import Dashboard
from service.runtime.late_dashboard import SECTIONS, LateDashboard


async def _name(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.path_params["name"]))


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/late/one", 200, "one"),
        ("POST", "/late/one", 405, ""),
        ("GET", "/late/one/two", 404, ""),
        ("GET", "/late/behind", 200, "behind"),
        ("GET", "/other", 404, ""),
    ],
)
async def test_late_routes_answer_as_if_they_stood_there(method: str, path: str, status: int, text: str) -> None:
    """Their first match wins, other methods are 405, and paths that none of them has go on to later routes."""
    late = LateRoutes(r"^/late(?:/.*)?$", lambda: [route("/late/{name:str}", get=_name)])
    app = Starlette(routes=[late, Route("/late/{name}/more", _name)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sample") as client:
        response = await client.request(method, path)
    assert response.status_code == status
    if text:
        assert response.text == text


async def test_routes_are_built_once_when_they_are_needed() -> None:
    """A request for another path builds nothing; a websocket neither."""
    build = MagicMock(return_value=[route("/late", get=_name)])
    late = LateRoutes(r"^/late$", build)
    for scope in ({"type": "http", "path": "/other"}, {"type": "websocket", "path": "/late"}):
        late.matches(scope)
    build.assert_not_called()
    for _ in range(2):
        late.matches({"type": "http", "path": "/late", "method": "GET"})
    build.assert_called_once_with()


def test_every_page_is_in_a_section() -> None:
    """No page of the dashboard is out of reach, and no section is without a page."""
    pages = Dashboard(**{name: MagicMock() for name in Dashboard.__dataclass_fields__ if not name.startswith("_")})
    (late,) = LateDashboard(build=lambda: pages).routes()
    paths = [page.path for page in pages.routes()]
    assert isinstance(late, LateRoutes)
    assert [path for path in paths if not late.path_regex.match(path)] == []
    assert {path.split("/")[1] for path in paths} == {"", *SECTIONS}


def test_every_drop_in_is_within_reach() -> None:
    """The pattern of the drop-in APIs matches each of their paths."""
    (late,) = drop_in_routes(MagicMock(), MagicMock(), MagicMock(), MagicMock())
    assert isinstance(late, LateRoutes)
    paths = [each.path for each in late.routes()]
    assert {"/model/v1/generation", "/v1/videos", "/mcp"} <= {*paths}
    assert [path for path in paths if not late.path_regex.match(path)] == []
