"""Where the upstream calls back."""

import re
from collections import Counter
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.ports import Receiver
from service.api.problems import Problem, ProblemError, internal_error, problem_of
from service.api.request_bodies import BodyLimits, BodyReader
from service.api.request_context import ALREADY_LOGGED, TASK
from service.api.routing import route
from service.domain.errors import BadSignature, BadToken, StoreUnavailable, UnreadableBody
from service.domain.tokens import TokenClaims

PATH = "/callbacks/{token}"
PREFIX = PATH.partition("{")[0]
ADDRESS = re.compile(f"{PREFIX}[^/]+")
TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,2048}")
VERDICTS: tuple[tuple[type[Exception], str], ...] = (
    (BadToken, "bad_token"),
    (BadSignature, "bad_signature"),
    (UnreadableBody, "refused_unreadable"),
    (StoreUnavailable, "store_unavailable"),
)
NO_CONTENT = Response(status_code=204)


class CallbackEndpoint:
    """Answers callbacks: 204 only after the receiver has returned, and never a 4xx for a fault of ours.

    It is an endpoint, and an application of its own for what `CallbackFastPath` brings.

    `refused` counts what got no 204, by verdict.
    """

    def __init__(self, receiver: Receiver, limits: BodyLimits) -> None:
        self._receiver = receiver
        self._bodies = BodyReader(limits)
        self.refused: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route(PATH, post=self.call_back)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one callback."""
        scope["state"]["route"] = PATH
        answer = await self.call_back(Request(scope, receive))
        await answer(scope, receive, send)

    async def call_back(self, request: Request) -> Response:
        """Take one callback."""
        try:
            claim = self._receiver.verify_token(
                _token(request)
            )  # before the body: a forged one takes no room, and no time
            body = await self._bodies.read_buffered(request)
            if body is not None:
                await self._take(request, claim, body)
            else:
                async with self._bodies.read(request) as body:
                    await self._take(request, claim, body)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with us must not read as the caller's fault
            return self._refuse(error).response()
        return NO_CONTENT

    async def _take(self, request: Request, claim: TokenClaims, body: bytes) -> None:
        state = request.scope["state"]
        state[TASK] = claim.task_id
        state[ALREADY_LOGGED] = await self._receiver.receive(claim, _headers(request), body)

    def _refuse(self, error: Exception) -> Problem:
        if isinstance(error, ProblemError):
            self.refused[error.problem.kind.replace("-", "_")] += 1
            return error.problem
        verdict = next((name for kind, name in VERDICTS if isinstance(error, kind)), None)
        self.refused[verdict or "internal_error"] += 1
        return problem_of(error) if verdict else internal_error(error, status=503)


class CallbackFastPath:
    """Spares callbacks the way through everything else: nobody calls as often."""

    def __init__(self, app: ASGIApp, *, door: ASGIApp) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bring a callback to the door, and anything else to the application."""
        called = scope["type"] == "http" and scope["method"] == "POST" and ADDRESS.fullmatch(scope["path"])
        await (self._door if called else self._app)(scope, receive, send)


def _token(request: Request) -> str:
    """Return the token as it stands in the path: one that is written otherwise than we wrote it is not ours."""
    token = str(request.scope["path"]).removeprefix(PREFIX)
    raw = bytes(request.scope.get("raw_path") or b"")
    if not TOKEN.fullmatch(token) or b"%" in raw:
        raise BadToken("the path holds nothing that could be a token")
    return token


def _headers(request: Request) -> Mapping[str, str]:
    """Return the headers by lower-case name; a repeated one is joined, so that no copy of it is overlooked."""
    headers: dict[str, str] = {}
    for raw, value in request.scope["headers"]:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers
