"""The routes of handlers, under `/handlers/{name}/`: without an API key, with limits on size, time and number."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from service.api.problems import STORE_PAUSE, Problem, ProblemError, internal_error
from service.api.request_bodies import BodyLimits, BodyReader
from service.api.request_work import BACKGROUND, RequestWork
from service.domain.errors import StoreUnavailable

MAX_REQUESTS = 64
"""Requests to the routes of one handler at once."""

BODIES_IN_MEMORY = 8
"""Largest bodies of one route that are in memory at once."""

TOO_MANY = Problem(
    status=503,
    kind="too-busy",
    detail="too many requests to this handler are in progress; try again",
    headers={"Retry-After": "1"},
)
TOO_LATE = Problem(status=504, kind="handler-timeout", detail="the handler did not answer in time")
AWAY = Problem(
    status=503,
    kind="store-unavailable",
    detail="the database cannot store it now; try again",
    headers={"Retry-After": str(int(STORE_PAUSE.total_seconds()))},
)

log = structlog.get_logger("boomerang.api")


@dataclass(frozen=True, kw_only=True)
class HandlerEndpoint:
    """One route of a handler: its full path, its method, and the bytes and seconds that a request may take.

    Unless it is to `answer_first`, a successful answer waits for the work of the request, where there is such work.
    """

    handler: str
    method: str
    path: str
    respond: Callable[[Request], Awaitable[Response]] = field(repr=False)
    max_body: int
    timeout: float
    answer_first: bool = False


class HandlerRoutes:
    """Serves the routes of the loaded handlers. Their errors are logged, and answered without any details."""

    def __init__(self, endpoints: Sequence[HandlerEndpoint], work: RequestWork = BACKGROUND) -> None:
        self._work = work
        self._by_path: defaultdict[str, dict[str, HandlerEndpoint]] = defaultdict(dict)
        self._bodies: dict[tuple[str, str], BodyReader] = {}
        self._running: Counter[str] = Counter()
        for each in endpoints:
            self._by_path[each.path][each.method] = each
            limits = BodyLimits(
                max_bytes=each.max_body,
                max_total_bytes=BODIES_IN_MEMORY * each.max_body,
                receive_timeout=10,
                memory_timeout=5,
            )
            self._bodies[each.method, each.path] = BodyReader(limits)

    def routes(self) -> list[Route]:
        """Return one route for each path."""
        return [self._route(path, by_method) for path, by_method in self._by_path.items()]

    def _route(self, path: str, by_method: dict[str, HandlerEndpoint]) -> Route:
        allowed = ", ".join(sorted({*by_method, "OPTIONS"}))

        async def dispatch(request: Request) -> Response:
            request.state.route = path
            if request.method == "OPTIONS":
                return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
            return await self._serve(by_method["GET" if request.method == "HEAD" else request.method], request)

        return Route(path, dispatch, methods=[*by_method, "OPTIONS"])

    async def _serve(self, endpoint: HandlerEndpoint, request: Request) -> Response:
        if self._running[endpoint.handler] >= MAX_REQUESTS:
            raise ProblemError(TOO_MANY)
        self._running[endpoint.handler] += 1
        try:
            async with self._bodies[endpoint.method, endpoint.path].read(request) as body:
                answer: object = await _answer(endpoint, _with_body(request, body))
        except StoreUnavailable:
            return AWAY.response()
        finally:
            self._running[endpoint.handler] -= 1
        if not isinstance(answer, Response):
            return internal_error(TypeError("a route must return a Response"), status=500).response()
        if not endpoint.answer_first and answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
            await self._work.drive_all()
        return answer


async def _answer(endpoint: HandlerEndpoint, request: Request) -> Response:
    """Return the response of the handler, or the problem for its error; raises StoreUnavailable."""
    try:
        async with asyncio.timeout(endpoint.timeout) as limit:
            return await endpoint.respond(request)
    except HTTPException as error:
        return Problem(status=error.status_code, headers=dict(error.headers or {})).response()
    except StoreUnavailable:
        raise
    except TimeoutError as error:
        if not limit.expired():
            return internal_error(error, status=500).response()
        log.warning("handler route exceeded its timeout", handler=endpoint.handler, route=endpoint.path)
        return TOO_LATE.response()
    except Exception as error:  # noqa: BLE001 - a handler may raise anything
        return internal_error(error, status=500).response()


def _with_body(request: Request, body: bytes) -> Request:
    """Return the request with its body, which is received already."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)
