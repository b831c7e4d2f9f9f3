"""A round robin load balancer for callbacks in front of two releases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from tests.acceptance.processes import HOST, TIMEOUT


@dataclass(kw_only=True)
class Balancer:
    """Forwards each callback to the next of `targets`, which may change; `answers` are the status codes of each."""

    http: httpx.AsyncClient = field(repr=False)
    url: str = ""
    targets: list[str] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)

    async def forward(self, request: Request) -> Response:
        """Forward one callback; respond 502 if the target does not answer."""
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name not in {"host", "content-length"}}
        self.targets.append(target := self.targets.pop(0))
        try:
            answer = await self.http.post(target + request.url.path, content=body, headers=headers)
        except httpx.HTTPError:
            return Response(status_code=502)
        self.answers.setdefault(target, []).append(answer.status_code)
        return Response(answer.content, answer.status_code)


@asynccontextmanager
async def balancing() -> AsyncIterator[Balancer]:
    """Run a balancer without targets inside the block."""
    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
        balancer = Balancer(http=http)
        app = Starlette(routes=[Route("/callbacks/{token}", balancer.forward, methods=["POST"])])
        async with serving(app, listen(HOST, 0), grace=1) as balancer.url:
            yield balancer
