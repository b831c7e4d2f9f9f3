"""Pool of kept-alive connections to one address. A connection carries one request at a time.

httpx's own pool scans all of its connections several times per request: with 16 requests at once the scan takes as long
as the request itself. Here the most recently used connection is taken first.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import httpx

from service.network.http_connection import HttpConnection
from service.network.transport import Outgoing, OutgoingTransport

IDLE_SECONDS = 1.5
"""How long an idle connection is used again, in seconds. The shortest limit of common servers is 2 s.

A request on a connection that the server closes at the same moment is lost, and nothing shows whether it was executed.
"""

POST_IDLE_SECONDS = 0.5
"""The same for a POST, which may cost money: a busy submitter uses its connections again, any other opens new ones."""

SUSPENDED = 5.0
"""Seconds by which the system's time has passed faster than the loop's if the machine, or its image, was suspended.

The loop's time does not pass then, and the other side may have closed the connection long ago.
"""

OpenConnection = Callable[[], httpx.AsyncBaseTransport]


class PooledTransport(httpx.AsyncBaseTransport):
    """Transport without a connection limit of its own: the caller limits how many requests run at once.

    `open_connection` makes the transport of one connection; None opens real ones, without a proxy.
    """

    def __init__(self, open_connection: OpenConnection | None = None) -> None:
        self._open_connection = open_connection or connection_opener(Outgoing())
        self._all: set[httpx.AsyncBaseTransport] = set()
        self._idle: deque[_Idle] = deque()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on a connection that stays reserved until the response is closed."""
        limit = POST_IDLE_SECONDS if request.method == "POST" else IDLE_SECONDS
        if self._idle and self._idle[-1].age() <= limit:
            connection = self._idle.pop().connection
        else:
            connection = self._open_connection()
            self._all.add(connection)
        try:
            await self._close_expired()
            response = await connection.handle_async_request(request)
            response.stream = _PooledStream(response.stream, partial(self._release, connection))
        except BaseException:
            await self._release(connection, reusable=True)
            raise
        return response

    async def _release(self, connection: httpx.AsyncBaseTransport, *, reusable: bool) -> None:
        """Make a connection available again, or close it: one whose close failed may block the next request."""
        if reusable:
            self._idle.append(_Idle(connection, asyncio.get_running_loop().time(), time.time()))
        else:
            self._all.discard(connection)
            await connection.aclose()

    async def _close_expired(self) -> None:
        """Close connections that are idle for longer than IDLE_SECONDS."""
        while self._idle and self._idle[0].age() > IDLE_SECONDS:
            connection = self._idle.popleft().connection
            self._all.discard(connection)
            await connection.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in list(self._all):
            await connection.aclose()


@dataclass(frozen=True, slots=True)
class _Idle:
    """An idle connection, with the loop's and the system's time of its last use in seconds."""

    connection: httpx.AsyncBaseTransport
    used: float
    used_at: float

    def age(self) -> float:
        """Return for how many seconds it is idle, infinite if the machine was suspended meanwhile."""
        idle = asyncio.get_running_loop().time() - self.used
        return math.inf if time.time() - self.used_at - idle > SUSPENDED else idle


class _PooledStream(httpx.AsyncByteStream):
    """Response body that releases its connection once, when it is closed."""

    def __init__(self, body: object, release: Callable[..., Awaitable[None]]) -> None:
        if not isinstance(body, httpx.AsyncByteStream):
            raise TypeError("a connection must return an asynchronous stream")
        self._body = body
        self._release: Callable[..., Awaitable[None]] | None = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.__aiter__()

    async def aclose(self) -> None:
        """Close the body and release the connection; an error while closing makes the connection unusable."""
        release, self._release = self._release, None
        reusable = False
        try:
            await self._body.aclose()
            reusable = True
        finally:
            if release:
                await release(reusable=reusable)


def connection_opener(outgoing: Outgoing) -> OpenConnection:
    """Return a function that opens one connection; all connections share the proxies and certificates of `outgoing`."""
    return lambda: OutgoingTransport(outgoing, open_pool=HttpConnection)
