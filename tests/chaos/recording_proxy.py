"""A proxy before the services, like a load balancer, that records every response."""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from time import monotonic

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.callback import callback_digest
from service.domain.tokens import Tokens
from tests.acceptance.environment import ALL_SECRETS
from tests.acceptance.processes import HOST
from tests.support.plain_http import NO_CERTIFICATES

CALLBACK_PATH = "/callbacks/"
RESPONSE_TIMEOUT = 20.0
"""Seconds until a request to a service fails: far more than a response takes."""

NO_RESPONSE = 502
"""The proxy's own status: no service accepted the connection, or it broke before the response."""

PASSED_HEADERS = frozenset({"content-type", "retry-after"})


@dataclass(kw_only=True)
class RecordingProxy:
    """Forwards requests to the first of `targets` that accepts the connection, starting with each in turn.

    `acknowledged` has the digest of each callback answered with 2xx, and when it first was; `answers` counts the
    statuses of callbacks; `unexpected` lists responses that no callback may get; `slowest` is the longest time in
    seconds until a callback was answered; `tokens` has the time of the last callback with each token, as `monotonic`.
    """

    targets: list[str]
    http: httpx.AsyncClient = field(repr=False)
    url: str = ""
    acknowledged: dict[str, datetime] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    slowest: float = 0.0
    tokens: dict[str, float] = field(default_factory=dict, repr=False)
    _turns: "count[int]" = field(default_factory=count, repr=False)
    _tokens: Tokens = field(default_factory=lambda: Tokens(ALL_SECRETS), repr=False)

    async def take(self, request: Request) -> Response:
        """Forward one request of the provider, and record the response."""
        body, started = await request.body(), monotonic()
        answer = await self.forward(request.method, request.url.path, body, request.headers)
        if request.url.path.startswith(CALLBACK_PATH):
            self.slowest = max(self.slowest, monotonic() - started)
            self._note(request.url.path.removeprefix(CALLBACK_PATH), body, answer)
        headers = {name: value for name, value in answer.headers.items() if name in PASSED_HEADERS}
        return Response(answer.content, answer.status_code, headers)

    async def forward(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Return the response of a service; one with status NO_RESPONSE when none came."""
        turn = next(self._turns)
        for step in range(len(self.targets)):
            target = self.targets[(turn + step) % len(self.targets)]
            try:
                return await self.http.request(method, target + path, content=body, headers=_passed(headers))
            except httpx.ConnectError:
                continue
            except httpx.HTTPError:  # it may have been processed: the client must repeat it
                break
        return httpx.Response(NO_RESPONSE)

    def _note(self, token: str, body: bytes, answer: httpx.Response) -> None:
        status = answer.status_code
        self.tokens[token] = monotonic()
        self.answers[status] += 1
        if answer.is_success:
            now = datetime.now(UTC)
            self.acknowledged.setdefault(callback_digest(self._tokens.read_callback_token(token, now), body), now)
        elif status == httpx.codes.SERVICE_UNAVAILABLE and "retry-after" not in answer.headers:
            self.unexpected.append("a callback was answered 503 without Retry-After")
        elif status not in {NO_RESPONSE, httpx.codes.SERVICE_UNAVAILABLE}:
            self.unexpected.append(f"a callback was answered {status}: {answer.text[:200]}")


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    dropped = {"host", "content-length", "connection", "transfer-encoding"}
    return {name: value for name, value in headers.items() if name.lower() not in dropped}


@asynccontextmanager
async def running_proxy(targets: list[str]) -> AsyncIterator[RecordingProxy]:
    """Run a proxy inside the block."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)  # no stale ones after a kill
    async with httpx.AsyncClient(
        timeout=RESPONSE_TIMEOUT, trust_env=False, verify=NO_CERTIFICATES, limits=limits
    ) as http:
        proxy = RecordingProxy(targets=targets, http=http)
        app = Starlette(routes=[Route("/{path:path}", proxy.take, methods=["POST"])])
        async with serving(app, listen(HOST, 0), grace=1) as url:
            proxy.url = url
            yield proxy
