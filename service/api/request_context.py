"""What surrounds every request: its id, safe headers on the answer, one log line, and the last line of defence."""

import re
import time
from collections.abc import Iterable
from itertools import count
from secrets import token_hex

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import Problem, internal_error

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
PROCESS = token_hex(8)
_COUNT = count(1)
"""A fresh id is the random name of the process and the number of the request."""

ALREADY_LOGGED = "told"
"""Where a request's state says that the log has told of it already."""

TASK = "task"
"""Where a request's state names the task that it is about, once that is known and the caller's to see."""

NO_CONTENT = 204
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

REPEATED_HOST = Problem(status=400, kind="repeated-host", detail="send Host once")

log = structlog.get_logger("service.api")


class RequestContextMiddleware:
    """The outermost middleware. Nothing that the application raises gets past it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of whatever kind; only HTTP is framed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Framed(self._app, scope, send).run(receive)


class _Framed:
    """One request within the frame."""

    def __init__(self, app: ASGIApp, scope: Scope, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._send = send
        self._state = scope.setdefault("state", {})
        self._request_id = _request_id(scope["headers"])
        self._status = 0
        self._started = time.perf_counter()

    async def run(self, receive: Receive) -> None:
        # of two hosts, a proxy may have looked at the other (RFC 9112, 3.2)
        app = REPEATED_HOST.response() if _has_two_hosts(self._scope["headers"]) else self._app
        try:
            await app(self._scope, receive, self._answer)
        except Exception as error:  # noqa: BLE001 - an answer and a log line are owed whatever went wrong
            problem = internal_error(error, status=500)
            if not self._status:
                await problem.response()(self._scope, receive, self._answer)
        finally:
            self._write_line()

    async def _answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self._request_id.encode())]
            if self._status != NO_CONTENT:  # an answer without a body cannot be misread
                given = {name for name, _ in headers}
                headers += [(name, value) for name, value in SAFE_HEADERS if name not in given]
            message = {**message, "headers": headers}
        await self._send(message)

    def _write_line(self) -> None:
        if self._state.get(ALREADY_LOGGED):
            return
        route = self._state.get("route", "unmatched")  # never the path: it may hold a token
        write = log.debug if route in PROBES else log.info
        caller, task = self._state.get("caller"), self._state.get(TASK)
        write(
            "request",
            method=self._scope["method"],
            route=route,
            status=self._status or None,
            duration_ms=round((time.perf_counter() - self._started) * 1000, 1),
            client=caller.name if caller else None,
            request_id=self._request_id,
            **({"task": task} if task else {}),
        )


def _has_two_hosts(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return [name for name, _ in headers].count(b"host") > 1


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the caller's own request id when it is a plain one, otherwise a fresh one."""
    for name, value in headers:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return f"{PROCESS}-{next(_COUNT)}"
