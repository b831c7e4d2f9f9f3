"""The request context: request id, security headers, one log line a request, and the last exception handler."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from operator import itemgetter
from secrets import token_hex
from typing import Protocol

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.endpoints import CALLBACK_PREFIX
from service.api.problem_shapes import PROBLEM_PAGE, problem_response
from service.api.problems import REPEATED_HOST, REQUEST_ID, Problem, internal_error
from service.api.whole_request import whole_request

PLAIN_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
CALLBACK_PATH = re.compile(f"{CALLBACK_PREFIX}[^/]+/?")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
PROCESS = token_hex(8)
_COUNT = count(1)
"""A generated request id is the random name of the process and the number of the request."""

ALREADY_LOGGED = "already_logged"
"""Key of the request's state: whether the use case has logged the request already."""

TASK = "task"
"""Key of the request's state: the id of the task, once it is known and the caller may see it."""

NO_CONTENT = Response(status_code=204)
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


log = structlog.get_logger("boomerang.api")


class Respondable(Protocol):
    """Something to respond with: a problem, or the answer to a probe."""

    def response(self) -> Response:
        """Return the response."""


class CallbackService(Protocol):
    """Receives callbacks."""

    async def call_back(self, scope: Scope, receive: Receive) -> Respondable | None:
        """Receive one callback; return what to respond with, None for a 204."""


class RequestContextMiddleware:
    """The outermost middleware: no exception of the application passes it.

    `callbacks` serves `POST /callbacks/{token}`, the most frequent request, without routing. `problem_page` makes a
    page of a problem for a person.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        callbacks: CallbackService | None = None,
        problem_page: Callable[[Problem, Scope], Response] | None = None,
    ) -> None:
        self._app = app
        self._callbacks = callbacks
        self._problem_page = problem_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other connections than HTTP pass unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        if scope["path"] == "*" and scope["method"] == "OPTIONS":
            scope = {**scope, "path": "/"}  # the whole server, for which the root stands
        context = _RequestContext(scope=scope, send=send, request_id=_request_id(scope["headers"]))
        scope["state"] |= {REQUEST_ID: context.request_id, PROBLEM_PAGE: self._problem_page}
        try:
            if list(map(itemgetter(0), scope["headers"])).count(b"host") > 1:
                await context.respond(REPEATED_HOST, receive)  # a proxy may have checked the other one (RFC 9112, 3.2)
            elif self._callbacks and scope["method"] == "POST" and CALLBACK_PATH.fullmatch(scope["path"]):
                await context.respond(await self._callbacks.call_back(scope, receive), receive)
            else:
                await self._app(scope, receive, context.send_message)
        except Exception as error:  # noqa: BLE001 - every failed request gets a response and a log line
            problem = internal_error(error, status=500)
            if not context.status:
                await context.respond(problem, receive)
        finally:
            context.log_request()


@dataclass(kw_only=True, slots=True)
class _RequestContext:
    """Data for the log line and the response headers of one request; `status` is 0 before the response starts."""

    scope: Scope
    send: Send
    request_id: str
    status: int = 0
    started: float = field(default_factory=time.perf_counter)

    async def send_message(self, message: Message) -> None:
        """Send a message of the response; add the request id and the security headers to its headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self.request_id.encode())]
            if self.status != NO_CONTENT.status_code:  # a response without a body cannot be misread
                present = dict(headers)
                for name, value in SECURITY_HEADERS:
                    if name not in present:
                        headers.append((name, value))
            message = {**message, "headers": headers}
        await self.send(message)

    async def respond(self, answer: Respondable | None, receive: Receive) -> None:
        """Send the response of `answer`, or a 204."""
        request = whole_request(receive) if answer is None else None
        if request:
            self.status = NO_CONTENT.status_code
            await request.send_no_content(self.request_id)
        else:
            if isinstance(answer, Problem):
                response = problem_response(answer, self.scope)
            else:
                response = answer.response() if answer else NO_CONTENT
            await response(self.scope, receive, self.send_message)

    def log_request(self) -> None:
        """Write the log line of the request, unless its use case has logged it."""
        state = self.scope["state"]
        if state.get(ALREADY_LOGGED):
            return
        route = state.get("route", "unmatched")  # never the path: it may contain a token
        write = log.debug if route in PROBES else log.info
        caller, task = state.get("caller"), state.get(TASK)
        write(
            "request",
            method=self.scope["method"],
            route=route,
            status=self.status or None,
            duration_ms=round((time.perf_counter() - self.started) * 1000, 1),
            client=caller.name if caller else None,
            request_id=self.request_id,
            **({"task": task} if task else {}),
        )


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the request id of the caller when it is a plain one, otherwise a new one."""
    for name, value in headers:
        if name == b"x-request-id" and PLAIN_ID.fullmatch(value):
            return value.decode("ascii")
    return f"{PROCESS}-{next(_COUNT)}"
