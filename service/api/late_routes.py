"""Routes of a part of the application that is imported when it is first asked for."""

import re
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

CHOSEN = "boomerang.late_route"
"""Key of the scope: the route behind a LateRoutes that matched."""


class LateRoutes(Route):
    """Stands for routes that `build` returns at the first request for a path that matches the pattern `paths`.

    A start imports nothing of what is behind them; most processes are never asked for a page. The pattern may match
    paths that no route has, which are answered as if this was not there.
    """

    def __init__(self, paths: str, build: Callable[[], Sequence[Route]]) -> None:
        self.path, self.path_regex = paths, re.compile(paths)
        self.name, self.methods = paths, set()
        self._build = build
        self._routes: Sequence[Route] | None = None

    def routes(self) -> Sequence[Route]:
        """Return the routes; the first call builds them."""
        if self._routes is None:
            self._routes = self._build()
        return self._routes

    def matches(self, scope: Scope) -> tuple[Match, MutableMapping[str, Any]]:
        """Return the best match of the routes."""
        best: tuple[Match, MutableMapping[str, Any]] = (Match.NONE, {})
        if scope["type"] != "http" or not self.path_regex.match(scope["path"]):
            return best
        for route in self.routes():
            match, found = route.matches(scope)
            if match.value > best[0].value:
                best = (match, {**found, CHOSEN: route})
        return best

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request with the route that matched."""
        await scope[CHOSEN].handle(scope, receive, send)
