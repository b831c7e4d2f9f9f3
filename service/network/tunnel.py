"""Connections through a proxy (CONNECT, RFC 9110, section 9.3.6).

A tunnel is made while connecting: if it fails, by a refusal, a timeout or a broken connection, it is a failed
connection, and nothing of the request was sent.
"""

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import httpcore
import httpx

from service.network.addresses import authority
from service.network.connection_errors import ProxyFault, refused_by_proxy, tls_reason, unreachable_proxy
from service.network.dialing import Dialer, connect_timeout, connect_to_first
from service.network.proxies import Proxy

Destinations = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns what the proxy is asked for to reach a host and port: the host, for the proxy to resolve, or its addresses.

Raises an error for a host that must not be reached.
"""


async def by_name(host: str, _port: int) -> Sequence[str]:
    """Return `host`: the proxy resolves it."""
    return [host]


class TunnelBackend(httpcore.AsyncNetworkBackend):
    """Connects through `proxy` to one of the `destinations` of a host. `dialer` connects to the proxy.

    `context` verifies the certificate of an https proxy; that of the host is verified by the caller.
    """

    def __init__(self, proxy: Proxy, *, dialer: Dialer, context: ssl.SSLContext, destinations: Destinations) -> None:
        self._proxy = proxy
        self._dialer = dialer
        self._context = context
        self._destinations = destinations

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,  # noqa: ARG002 - the interface of httpcore
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - the interface of httpcore
    ) -> httpcore.AsyncNetworkStream:
        """Return a tunnel to `host`; `timeout` is in seconds, for all of it.

        Raises ConnectError, ConnectTimeout or ProxyError, or an error of `destinations`.
        """
        failures: dict[str, str] = {}
        async with connect_timeout(f"{host} through the proxy", timeout, failures):
            return await connect_to_first(await self._destinations(host, port), partial(self._open, port), failures)

    async def sleep(self, seconds: float) -> None:
        """Sleep, as the interface requires."""
        await self._dialer.sleep(seconds)

    async def _open(self, port: int, destination: str) -> httpcore.AsyncNetworkStream:
        """Return a tunnel to `destination`; raises ConnectError or ProxyError."""
        try:
            stream = await self._dialer.connect_tcp(self._proxy.host, self._proxy.port)
        except httpcore.ConnectError as error:
            raise unreachable_proxy(error) from error
        try:
            if self._proxy.scheme == "https":
                stream = await self._secured(stream)
            return await self._connect(stream, authority(destination, port))
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            await stream.aclose()
            if isinstance(error, httpcore.ConnectError | httpcore.ProxyError):
                raise
            raise ProxyFault("the proxy closed the connection or did not answer as a proxy") from error
        except BaseException:
            await stream.aclose()
            raise

    async def _secured(self, stream: httpcore.AsyncNetworkStream) -> httpcore.AsyncNetworkStream:
        """Return TLS with the proxy over `stream`; raises ProxyError, also for a proxy that has no TLS."""
        self._context.set_alpn_protocols(["http/1.1"])
        try:
            return await stream.start_tls(self._context, server_hostname=self._proxy.host)
        except httpcore.ConnectError as error:
            raise ProxyFault(f"the proxy: {tls_reason(error) or 'no TLS'}") from error

    async def _connect(self, stream: httpcore.AsyncNetworkStream, target: str) -> httpcore.AsyncNetworkStream:
        """Ask the proxy for a tunnel to `target` and return it; raises an error of httpcore."""
        url = httpcore.URL(scheme=self._proxy.scheme, host=self._proxy.host, port=self._proxy.port, target=target)
        headers = [(b"Host", target.encode("ascii")), *authorization_headers(self._proxy)]
        connection = httpcore.AsyncHTTP11Connection(origin=url.origin, stream=stream)
        response = await connection.handle_async_request(httpcore.Request("CONNECT", url, headers=headers))
        if not httpx.codes.is_success(response.status):
            raise refused_by_proxy(response.status)
        tunnel = response.extensions["network_stream"]
        if not isinstance(tunnel, httpcore.AsyncNetworkStream):
            raise TypeError("a tunnel is a stream")
        return tunnel


def authorization_headers(proxy: Proxy) -> list[tuple[bytes, bytes]]:
    """Return the header with the user and password of `proxy`, if it has some."""
    return [] if proxy.user is None else [(b"Proxy-Authorization", f"Basic {proxy.credentials}".encode("ascii"))]
