"""One connection over HTTP/1.1, as a transport of httpx. It parses with h11, as httpcore does.

The pool of httpcore above one connection, and the client of httpx above its transport, take three times the processor
time of the request itself: a pool scans its connections, each layer has locks, traces and a wrapper of the body.
"""

import ssl
from collections.abc import AsyncIterator

import anyio
import h11
import httpcore
import httpx
from httpcore import AsyncNetworkBackend, AsyncNetworkStream

from service.network.proxies import DEFAULT_PORTS

CHUNK = 64 * 1024
MAX_HEAD = 100 * 1024
"""Bytes of the head of a response, or of the line before a chunk of its body."""

FAULTS = (
    h11.ProtocolError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
)


class HttpConnection(httpx.AsyncBaseTransport):
    """Sends requests to one host, one at a time. The connection is opened for the first one, and kept.

    It is opened anew if the other side has closed it or has sent something without a request, and after a response that
    was not read to its end. `backend` connects; `context` is for https.

    Of the timeouts of a request only that for connecting is used, once for TCP and once for TLS: the caller limits the
    whole request.
    """

    def __init__(self, backend: AsyncNetworkBackend, context: ssl.SSLContext) -> None:
        self._backend = backend
        self._context = context
        self._stream: AsyncNetworkStream | None = None
        self._protocol = h11.Connection(h11.CLIENT, MAX_HEAD)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and return the response with its body unread; raises the errors of httpx and of `backend`.

        ConnectError and ConnectTimeout mean that nothing was sent.
        """
        try:
            stream = await self._open_stream(request)
            await self._send(stream, request)
            head = await self._receive_head(stream)
        except FAULTS as error:
            await self.aclose()
            raise _as_httpx(error) from error
        except BaseException:
            await self.aclose()
            raise
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=_Body(self, stream))

    async def aclose(self) -> None:
        """Close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    async def _open_stream(self, request: httpx.Request) -> AsyncNetworkStream:
        """Return the connection if it can be used again, else a new one."""
        if self._stream is not None:
            if not self._stream.get_extra_info("is_readable"):
                return self._stream
            await self.aclose()
        url, limit = request.url, request.extensions.get("timeout", {}).get("connect")
        host = url.raw_host.decode("ascii")
        stream = await self._backend.connect_tcp(host, url.port or DEFAULT_PORTS[url.scheme], timeout=limit)
        if url.scheme == "https":
            stream = await self._secured(stream, host, limit)
        self._stream, self._protocol = stream, h11.Connection(h11.CLIENT, MAX_HEAD)
        return stream

    async def _secured(self, stream: AsyncNetworkStream, host: str, limit: float | None) -> AsyncNetworkStream:
        """Return TLS with `host` over `stream`, which is closed after an error, and if the request is cancelled."""
        self._context.set_alpn_protocols(["http/1.1"])
        try:
            return await stream.start_tls(self._context, server_hostname=host, timeout=limit)
        except BaseException:  # httpcore closes it after an error, and not after a cancellation
            with anyio.CancelScope(shield=True):
                await stream.aclose()
            raise

    async def _send(self, stream: AsyncNetworkStream, request: httpx.Request) -> None:
        """Send the request, its head together with the first part of its body.

        The other side may answer and close before it has read everything: what it answered is read then.
        """
        target = request.extensions.get("target", request.url.raw_path)
        head = h11.Request(method=request.method, target=target, headers=request.headers.raw)
        unsent = self._protocol.send(head) or b""
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("an asynchronous transport takes an asynchronous body")
        try:
            async for part in request.stream:
                await stream.write(unsent + (self._protocol.send(h11.Data(data=part)) or b""))
                unsent = b""
            await stream.write(unsent + (self._protocol.send(h11.EndOfMessage()) or b""))
        except httpcore.WriteError:
            pass

    async def _receive_head(self, stream: AsyncNetworkStream) -> h11.Response:
        """Return the head of the response; those of interim responses are skipped."""
        while not isinstance(event := await self.receive(stream), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("the other side did not answer the request")
        return event

    async def receive(self, stream: AsyncNetworkStream) -> object:
        """Return the next event of h11 in the response."""
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await stream.read(CHUNK))
        return event

    async def finish(self, stream: AsyncNetworkStream) -> None:
        """Keep the connection for the next request if the response was read to its end and nothing follows it."""
        if stream is not self._stream:
            return
        protocol = self._protocol
        if protocol.our_state is protocol.their_state is h11.DONE and not protocol.trailing_data[0]:
            protocol.start_next_cycle()
        else:
            await self.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a response that `connection` receives from `stream`."""

    def __init__(self, connection: HttpConnection, stream: AsyncNetworkStream) -> None:
        self._connection = connection
        self._stream: AsyncNetworkStream | None = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._stream is None:
            raise httpx.StreamClosed
        try:
            while isinstance(event := await self._connection.receive(self._stream), h11.Data):
                yield bytes(event.data)
        except FAULTS as error:
            await self._connection.aclose()
            raise _as_httpx(error) from error

    async def aclose(self) -> None:
        """Give the connection back, once."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await self._connection.finish(stream)


def _as_httpx(error: Exception) -> Exception:
    """Return the error of httpx that has the name of one of httpcore or h11."""
    name = next(each.__name__ for each in type(error).__mro__ if hasattr(httpx, each.__name__))
    mapped: Exception = getattr(httpx, name)(str(error))
    return mapped
