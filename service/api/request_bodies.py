"""Request bodies: read with limits on size, time and total memory."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

from starlette.requests import ClientDisconnect, Request

from service.api.problems import ENCODED_BODY, NOT_JSON, NOT_UTF_8, TOO_BUSY, TOO_SLOW, Problem, ProblemError
from service.concurrency.byte_semaphore import ByteSemaphore
from service.domain.errors import UnreadableBody

MB = 1024 * 1024
SMALL = 64 * 1024
"""Maximum size of a body that does not count against the total memory, in bytes."""

BODY_COMPLETE = "body_complete"
"""Key of the request's state: whether the server has received the whole body, so that reading does not wait."""

JSON_TYPE = re.compile(r"application/([a-z0-9.-]+\+)?json")


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """Limits of request bodies, in bytes and seconds.

    `receive_timeout` bounds the arrival of a body. `memory_timeout` bounds the wait for memory, when the bodies of all
    requests have reached `max_total_bytes`; the body stays unread during this wait.
    """

    max_bytes: int
    max_total_bytes: int
    receive_timeout: float
    memory_timeout: float


# while it is validated a task's body takes three times its size
TASK_BODIES = BodyLimits(max_bytes=24 * MB, max_total_bytes=48 * MB, receive_timeout=120, memory_timeout=900)
CALLBACK_BODIES = BodyLimits(max_bytes=2 * MB, max_total_bytes=32 * MB, receive_timeout=30, memory_timeout=20)


@dataclass(slots=True)
class BodyReader:
    """Reads the bodies of one kind of request within its limits."""

    limits: BodyLimits
    _memory: ByteSemaphore = field(init=False)

    def __post_init__(self) -> None:
        """Create the semaphore of the total memory."""
        self._memory = ByteSemaphore(self.limits.max_total_bytes)

    async def read_buffered(self, request: Request) -> bytes | None:
        """Return a small body that the server has received completely; None for any other body. Raises like `read`.

        Most callbacks arrive like this. It avoids the cost of a timeout and a context manager.
        """
        if not request.scope.get("state", {}).get(BODY_COMPLETE) or self._announced_size(request) > SMALL:
            return None
        body, _ = await self._part(request, SMALL)
        return body

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the whole body; a large one counts against the total memory until the block ends.

        Raises ProblemError (408 too slow, 413 too large, 503 no memory in time), UnreadableBody or ClientDisconnect.
        """
        size = self._announced_size(request)
        async with AsyncExitStack() as stack:
            if size > SMALL:
                try:
                    await stack.enter_async_context(self._memory.hold(size, seconds=self.limits.memory_timeout))
                except TimeoutError:
                    raise ProblemError(TOO_BUSY) from None
            yield await self._receive(request)

    def _announced_size(self, request: Request) -> int:
        """Return Content-Length, or the maximum size for a body without it."""
        for name, value in request.scope["headers"]:
            if name == b"content-length":
                if not value.isdigit():
                    raise UnreadableBody("Content-Length must be a whole number")
                if len(value) > len(str(self.limits.max_bytes)) or int(value) > self.limits.max_bytes:
                    raise ProblemError(self._too_large())
                return int(value)
        return self.limits.max_bytes

    async def _receive(self, request: Request) -> bytes:
        body = BytesIO()
        try:
            async with asyncio.timeout(self.limits.receive_timeout):
                part, more = await self._part(request, self.limits.max_bytes)
                if not more:
                    return part  # most bodies arrive in one part
                while more:
                    body.write(part)
                    part, more = await self._part(request, self.limits.max_bytes - body.tell())
        except TimeoutError:
            raise ProblemError(TOO_SLOW) from None
        body.write(part)
        return body.getvalue()  # shares its buffer: no second copy of a large body

    async def _part(self, request: Request, max_bytes: int) -> tuple[bytes, bool]:
        """Return the next part of at most `max_bytes`, and whether more parts follow."""
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect("the connection ended before the body did")
        part: bytes = message.get("body", b"")
        if len(part) > max_bytes:
            raise ProblemError(self._too_large())
        return part, message.get("more_body", False)

    def _too_large(self) -> Problem:
        detail = f"a body here is at most {self.limits.max_bytes:,} bytes"
        return Problem(status=413, kind="body-too-large", detail=detail, headers={"Connection": "close"})


UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
"""Charsets that are UTF-8 or a subset of it."""


def require_json(request: Request) -> None:
    """Raise a 415 problem unless the headers announce, once, plain JSON in UTF-8."""
    types = request.headers.getlist("content-type")
    if len(types) != 1:
        raise ProblemError(NOT_JSON)
    media_type, *parameters = types[0].lower().split(";")
    if not JSON_TYPE.fullmatch(media_type.strip()):
        raise ProblemError(NOT_JSON)
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in UTF_8:
            raise ProblemError(NOT_UTF_8)
    for coding in request.headers.getlist("content-encoding"):
        if coding.strip().lower() != "identity":
            raise ProblemError(ENCODED_BODY)
