"""Request bodies: read with limits on size, time and total memory, which clients share."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from service.api.problems import ENCODED_BODY, NOT_JSON, NOT_UTF_8, TOO_BUSY, TOO_SLOW, Problem, ProblemError
from service.api.query_params import QueryParams
from service.api.whole_request import whole_request
from service.concurrency.shared_bytes import BodyShare, SharedBytes
from service.domain.errors import UnreadableBody
from service.domain.strict_json import parse_json

MB = 1024 * 1024
SMALL = 64 * 1024
"""Maximum size of a body that does not count against the total memory, in bytes."""

RATE_GRACE = 10.0
"""Seconds before the minimum rate of a body counts."""

FIRST_SECONDS = 60.0
"""Time limit for a body that takes memory beside the pool while others wait, in seconds."""

JSON_TYPE = re.compile(r"application/([a-z0-9.-]+\+)?json")


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """Limits of request bodies, in bytes and seconds.

    `receive_timeout` bounds the time without a byte, and `min_rate` is the minimum average rate in bytes a second.
    `memory_timeout` bounds the wait for memory, when the bodies of all requests have reached `max_total_bytes` or the
    client its share; the rest of the body stays unread during this wait, which does not count as the sender's time.
    """

    max_bytes: int
    max_total_bytes: int
    receive_timeout: float
    memory_timeout: float
    min_rate: int = 32 * 1024


# while it is validated a task's body takes three times its size
TASK_BODIES = BodyLimits(max_bytes=24 * MB, max_total_bytes=48 * MB, receive_timeout=10, memory_timeout=900)
FILTER_BODIES = BodyLimits(max_bytes=MB // 16, max_total_bytes=4 * MB, receive_timeout=10, memory_timeout=20)
CALLBACK_BODIES = BodyLimits(max_bytes=2 * MB, max_total_bytes=32 * MB, receive_timeout=10, memory_timeout=20)


@dataclass(kw_only=True, slots=True)
class _Arrival:
    """How far a body has arrived: its bytes, the seconds spent waiting for them, and since when it is `first`."""

    size: int = 0
    seconds: float = 0.0
    first_since: float | None = None

    def seconds_left(self, limits: BodyLimits) -> float:
        """Return how long the next part may take."""
        due = RATE_GRACE + self.size / limits.min_rate
        return min(limits.receive_timeout, due - self.seconds)


@dataclass(slots=True)
class BodyReader:
    """Reads the bodies of one kind of request within its limits."""

    limits: BodyLimits
    _memory: SharedBytes = field(init=False)

    def __post_init__(self) -> None:
        """Create the pool of the total memory."""
        self._memory = SharedBytes(total=self.limits.max_total_bytes)

    def received(self, receive: Receive) -> bytes | None:
        """Return a small body that the server has received completely; None for any other body, which `read` returns.

        Most callbacks arrive like this. It avoids the cost of messages, a timeout and a context manager.
        """
        request = whole_request(receive)
        return request.small_body(min(SMALL, self.limits.max_bytes)) if request else None

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the whole body; a large one counts against the share of its client until the block ends.

        Raises ProblemError (408 too slow, 413 too large, 503 no memory in time), UnreadableBody or ClientDisconnect.
        """
        self._announced_size(request)
        with self._memory.share(_share_owner(request)) as share:
            yield await self._receive(request, share)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """Yield the parts of the body as they arrive, which count like a whole body until the block ends.

        Reading them raises like `read`. They all count: what is made of them takes as much memory.
        """
        self._announced_size(request)
        with self._memory.share(_share_owner(request)) as share:
            yield self._parts(request, share)

    async def _parts(self, request: Request, share: BodyShare) -> AsyncGenerator[bytes, None]:
        arrival, more = _Arrival(), True
        while more:
            part, more = await self._timed_part(request, arrival)
            await self._take(share, len(part))
            self._check_first(share, arrival)
            arrival.size += len(part)
            yield part

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

    async def _receive(self, request: Request, share: BodyShare) -> bytes:
        """Return the whole body. Its bytes are counted in `share` as they arrive, the first SMALL ones are not."""
        body, arrival, more = BytesIO(), _Arrival(), True
        while more:
            part, more = await self._timed_part(request, arrival)
            if not more and not arrival.size and len(part) <= SMALL:
                return part  # most bodies arrive in one part
            if arrival.size + len(part) > SMALL:
                await self._take(share, len(part) if arrival.size > SMALL else arrival.size + len(part))
                self._check_first(share, arrival)
            body.write(part)
            arrival.size += len(part)
        return body.getvalue()  # shares its buffer: no second copy of a large body

    async def _timed_part(self, request: Request, arrival: _Arrival) -> tuple[bytes, bool]:
        """Return the next part like `_part`, or raise the 408 of a sender that is too slow."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(arrival.seconds_left(self.limits)):
                found = await self._part(request, self.limits.max_bytes - arrival.size)
        except TimeoutError:
            raise ProblemError(TOO_SLOW) from None
        arrival.seconds += loop.time() - began
        return found

    async def _take(self, share: BodyShare, size: int) -> None:
        try:
            await share.take(size, seconds=self.limits.memory_timeout)
        except TimeoutError:
            raise ProblemError(TOO_BUSY) from None

    def _check_first(self, share: BodyShare, arrival: _Arrival) -> None:
        """Raise the 408 of a body that others have waited for during FIRST_SECONDS."""
        if not (share.first and self._memory.waiting):
            arrival.first_since = None
            return
        now = asyncio.get_running_loop().time()
        arrival.first_since = now if arrival.first_since is None else arrival.first_since
        if now - arrival.first_since > FIRST_SECONDS:
            raise ProblemError(TOO_SLOW)

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


async def read_optional_json(bodies: BodyReader, request: Request) -> object:
    """Return the JSON body of a request without query parameters, an empty object for an empty body."""
    QueryParams(request).reject_errors()
    async with bodies.read(request) as body:
        if not body:
            return {}
        require_json(request)
        return parse_json(body)


def _share_owner(request: Request) -> str:
    """Return whose share of the memory a body takes: that of its client, or of its callback address."""
    caller = request.scope.get("state", {}).get("caller")
    return caller.share_owner if caller else str(request.scope["path"])


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
