"""Request bodies: read with a cap, a time limit and a bound on the bytes in hand; parsed off the loop when large."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from io import BytesIO

from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect, Request

from service.api.problems import Problem, ProblemError
from service.concurrency.byte_semaphore import ByteSemaphore
from service.domain.errors import UnreadableBody
from service.domain.strict_json import parse_json

MB = 1024 * 1024
SMALL = 64 * 1024  # below it a body does not count against the bound
BODY_COMPLETE = "whole"
"""Where in a request's state the server says that all of its body is there already: nothing has to be waited for."""

JSON_TYPE = re.compile(r"application/([a-z0-9.-]+\+)?json")
THREAD_THRESHOLD = MB  # above it JSON is parsed in a thread: handing it over takes longer than parsing a picture's


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """How large one body may be, how many bytes all of them together, and how long things may take.

    `seconds` is for a body to arrive, `patience` for it to wait unread until there is room, in seconds.
    """

    most: int
    together: int
    seconds: float
    patience: float


TASK_BODIES = BodyLimits(most=24 * MB, together=48 * MB, seconds=120, patience=900)  # in hand it costs thrice its size
CALLBACK_BODIES = BodyLimits(most=2 * MB, together=32 * MB, seconds=30, patience=20)


class BodyReader:
    """Reads the bodies of one kind of request within its limits."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._budget = ByteSemaphore(limits.together)

    async def read_buffered(self, request: Request) -> bytes | None:
        """Return a small body that has come whole already, None for any other, which is to be read; raises as `read`.

        It saves what surrounds a wait: most callbacks come like this.
        """
        if not request.scope.get("state", {}).get(BODY_COMPLETE) or self._announced(request) > SMALL:
            return None
        body, _ = await self._part(request, SMALL)
        return body

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Give the whole body; its bytes count as in hand until the block ends.

        Raises Refusal (408 too slow, 413 too large, 503 too many at once), UnreadableBody or ClientDisconnect.
        """
        size = self._announced(request)
        if size <= SMALL:
            yield await self._within_time(request)
            return
        async with self._room(size):
            yield await self._within_time(request)

    @asynccontextmanager
    async def _room(self, size: int) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._budget.hold(size, seconds=self._limits.patience))
            except TimeoutError:
                raise ProblemError(TOO_BUSY) from None
            yield

    def _announced(self, request: Request) -> int:
        """Return how many bytes may come: as announced, otherwise as many as are allowed."""
        text = next((value for name, value in request.scope["headers"] if name == b"content-length"), None)
        if text is None:
            return self._limits.most
        if not text.isdigit():
            raise UnreadableBody("Content-Length must be a whole number")
        if len(text) > len(str(self._limits.most)) or int(text) > self._limits.most:
            raise ProblemError(self._too_large())
        return int(text)

    async def _within_time(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._collect(request)
        except TimeoutError:
            raise ProblemError(TOO_SLOW) from None

    async def _collect(self, request: Request) -> bytes:
        part, more = await self._part(request, self._limits.most)
        if not more:
            return part  # as most of them come: in one piece
        body = BytesIO()
        while more:
            body.write(part)
            part, more = await self._part(request, self._limits.most - body.tell())
        body.write(part)
        return body.getvalue()  # shares its buffer: no second copy of a large body

    async def _part(self, request: Request, most: int) -> tuple[bytes, bool]:
        """Return the next piece of at most `most` bytes, and whether more is to come."""
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect("the connection ended before the body did")
        part: bytes = message.get("body", b"")
        if len(part) > most:
            raise ProblemError(self._too_large())
        return part, message.get("more_body", False)

    def _too_large(self) -> Problem:
        detail = f"a body here is at most {self._limits.most:,} bytes"
        return Problem(status=413, kind="body-too-large", detail=detail, headers={"Connection": "close"})


TOO_BUSY = Problem(
    status=503,
    kind="too-busy",
    detail="too many large bodies at once; try again",
    headers={"Retry-After": "10", "Connection": "close"},
)
TOO_SLOW = Problem(
    status=408,
    kind="body-too-slow",
    detail="the body did not arrive in time",
    headers={"Connection": "close"},
)
NOT_JSON = Problem(status=415, kind="not-json", detail="send Content-Type: application/json, once")


async def parse_body(body: bytes) -> object:
    """Return the JSON value in `body`; raises UnreadableBody. Large ones are parsed in a thread."""
    return parse_json(body) if len(body) <= THREAD_THRESHOLD else await run_sync(parse_json, body)


def require_json(request: Request) -> None:
    """Refuse with 415 a request whose body is not announced, once, as plain JSON in UTF-8."""
    types = request.headers.getlist("content-type")
    if len(types) != 1:
        raise ProblemError(NOT_JSON)
    media_type, *parameters = types[0].lower().split(";")
    if not JSON_TYPE.fullmatch(media_type.strip()):
        raise ProblemError(NOT_JSON)
    if not all(_in_utf8(parameter) for parameter in parameters):
        raise ProblemError(
            Problem(status=415, kind="not-utf-8", detail="send JSON in UTF-8 (RFC 8259), no other charset")
        )
    if any(coding.strip().lower() != "identity" for coding in request.headers.getlist("content-encoding")):
        raise ProblemError(Problem(status=415, kind="encoded-body", detail="send the body without Content-Encoding"))


def _in_utf8(parameter: str) -> bool:
    """Whether a parameter of a media type, in small letters, leaves it in UTF-8 or in ASCII, which is a part of it."""
    name, _, value = parameter.partition("=")
    return name.strip() != "charset" or value.strip().strip('"') in {"utf-8", "utf8", "us-ascii"}
