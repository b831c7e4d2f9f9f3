"""Kept-alive connections to one address, each lent to one request at a time.

httpx's own pool looks through all of its connections several times a request: at 16 at once that takes as long as the
request itself. Here each connection is a pool of one, and the one that came back last is lent first.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import httpx

IDLE_SECONDS = 5.0
"""How long an idle connection is kept; servers close theirs a little later."""

OpenConnection = Callable[[], httpx.AsyncBaseTransport]


class PooledTransport(httpx.AsyncBaseTransport):
    """A transport without a limit of its own: whoever sends bounds how many requests are on their way at once.

    `open_connection` makes the transport of one connection; None for real ones, which trust the usual certificates.
    """

    def __init__(self, open_connection: OpenConnection | None = None) -> None:
        self._open_connection = open_connection or _connection_opener()
        self._all: set[httpx.AsyncBaseTransport] = set()
        self._idle: deque[tuple[float, httpx.AsyncBaseTransport]] = deque()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on a connection that is nobody else's until the answer is closed."""
        connection = self._acquire()
        try:
            await self._close_idle()
            response = await connection.handle_async_request(request)
            response.stream = _PooledStream(response.stream, partial(self._finish, connection))
        except BaseException:
            self._release(connection)
            raise
        return response

    def _acquire(self) -> httpx.AsyncBaseTransport:
        if self._idle:
            return self._idle.pop()[1]
        connection = self._open_connection()
        self._all.add(connection)
        return connection

    def _release(self, connection: httpx.AsyncBaseTransport) -> None:
        self._idle.append((asyncio.get_running_loop().time(), connection))

    async def _finish(self, connection: httpx.AsyncBaseTransport, *, reusable: bool) -> None:
        """Lend a connection again whose answer was closed; one that broke off there may be blocked for ever."""
        if reusable:
            self._release(connection)
        else:
            self._all.discard(connection)
            await connection.aclose()

    async def _close_idle(self) -> None:
        """Close what nobody has wanted for a while: the server has given it up as well, or soon will."""
        before = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and self._idle[0][0] < before:
            _, connection = self._idle.popleft()
            self._all.discard(connection)
            await connection.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in list(self._all):
            await connection.aclose()


class _PooledStream(httpx.AsyncByteStream):
    """A body, and what is to be done once when it is closed, in order or not."""

    def __init__(self, body: object, finish: Callable[..., Awaitable[None]]) -> None:
        if not isinstance(body, httpx.AsyncByteStream):
            raise TypeError("a connection answers with an asynchronous stream")
        self._body = body
        self._finish: Callable[..., Awaitable[None]] | None = finish

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.__aiter__()

    async def aclose(self) -> None:
        """Close the body."""
        finish, self._finish = self._finish, None
        reusable = False
        try:
            await self._body.aclose()
            reusable = True
        finally:
            if finish:
                await finish(reusable=reusable)


def _connection_opener() -> OpenConnection:
    """Return what opens one connection; all of them share one set of certificates."""
    ssl_context = httpx.create_ssl_context(trust_env=False)
    one = httpx.Limits(max_connections=1, keepalive_expiry=IDLE_SECONDS)
    return lambda: httpx.AsyncHTTPTransport(verify=ssl_context, trust_env=False, limits=one)
