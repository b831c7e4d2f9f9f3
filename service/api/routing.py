"""Routes: one for each path with all of its methods, so that a 405 names every allowed method."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CALLBACK_PREFIX = "/callbacks/"

Endpoint = Callable[[Request], Awaitable[Response]]


def route(path: str, *, get: Endpoint | None = None, post: Endpoint | None = None) -> Route:
    """Return the route of `path` for the given methods; HEAD is served like GET."""
    methods = {name: each for name, each in (("GET", get), ("POST", post)) if each is not None}

    async def dispatch(request: Request) -> Response:
        request.state.route = path
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method](request)

    return Route(path, dispatch, methods=list(methods))
