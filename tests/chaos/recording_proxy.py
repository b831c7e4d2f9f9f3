"""What stands before the services, as a load balancer does: it passes requests on, and writes down every answer."""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.callback import callback_digest
from service.domain.tokens import Tokens
from tests.acceptance.environment import SECRET
from tests.acceptance.processes import HOST

PREFIX = "/callbacks/"
WITHIN = 20.0
"""Seconds that a service has to answer: far more than it takes, and less than anything waits for ever."""

NOBODY = 502
"""The gate's own answer: nobody took the connection, or it broke before the answer came."""

KEPT = frozenset({"content-type", "retry-after"})


@dataclass(kw_only=True)
class Gate:
    """Passes requests to the first of `targets` that takes the connection, each request beginning with another one.

    `acknowledged` holds the digest of each callback that a service answered with 2xx, as its inbox must have it;
    `answers` counts what callbacks were answered; `odd` tells of answers that no callback may get.
    """

    targets: list[str]
    http: httpx.AsyncClient = field(repr=False)
    url: str = ""
    acknowledged: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    _turns: "count[int]" = field(default_factory=count, repr=False)
    _tokens: Tokens = field(default_factory=lambda: Tokens([SECRET]), repr=False)

    async def take(self, request: Request) -> Response:
        """Pass one request of the upstream's on, and write down what became of it."""
        body = await request.body()
        answer = await self.forward(request.method, request.url.path, body, request.headers)
        if request.url.path.startswith(PREFIX):
            self._note(request.url.path.removeprefix(PREFIX), body, answer)
        headers = {name: value for name, value in answer.headers.items() if name in KEPT}
        return Response(answer.content, answer.status_code, headers)

    async def forward(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Return the answer of a service; one with status NOBODY when none came."""
        turn = next(self._turns)
        for step in range(len(self.targets)):
            target = self.targets[(turn + step) % len(self.targets)]
            try:
                return await self.http.request(method, target + path, content=body, headers=_passed(headers))
            except httpx.ConnectError:
                continue
            except httpx.HTTPError:  # it may have been carried out: whoever asked must ask again
                break
        return httpx.Response(NOBODY)

    def _note(self, token: str, body: bytes, answer: httpx.Response) -> None:
        status = answer.status_code
        self.answers[status] += 1
        if answer.is_success:
            self.acknowledged.add(callback_digest(self._tokens.read_callback_token(token, datetime.now(UTC)), body))
        elif status == httpx.codes.SERVICE_UNAVAILABLE and "retry-after" not in answer.headers:
            self.odd.append("a callback was answered 503 without Retry-After")
        elif status not in {NOBODY, httpx.codes.SERVICE_UNAVAILABLE}:
            self.odd.append(f"a callback was answered {status}: {answer.text[:200]}")


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    dropped = {"host", "content-length", "connection", "transfer-encoding"}
    return {name: value for name, value in headers.items() if name.lower() not in dropped}


@asynccontextmanager
async def gate_before(targets: list[str]) -> AsyncIterator[Gate]:
    """Run a gate inside the block."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)  # a killed process leaves no stale ones
    async with httpx.AsyncClient(timeout=WITHIN, trust_env=False, limits=limits) as http:
        gate = Gate(targets=targets, http=http)
        app = Starlette(routes=[Route("/{path:path}", gate.take, methods=["POST"])])
        async with serving(app, listen(HOST, 0), grace=1) as url:
            gate.url = url
            yield gate
