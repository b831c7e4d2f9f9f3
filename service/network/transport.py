"""The transport of every outgoing request: direct, through a tunnel, or forwarded by a proxy.

httpx reads proxies and certificates from the environment only without a transport of its own, so nothing applies twice.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import httpcore
import httpx

from service.network import certificates, proxies
from service.network.certificates import trust
from service.network.connection_errors import refused_by_proxy, unreachable_proxy
from service.network.dialing import Dialer, connect_timeout
from service.network.proxies import DEFAULT_PORTS, Proxy, ProxyRules, proxy_rules
from service.network.tunnel import Destinations, TunnelBackend, authorization_headers, by_name

OpenPool = Callable[[httpcore.AsyncNetworkBackend, ssl.SSLContext], httpx.AsyncBaseTransport]
"""Returns a transport that connects with a backend and checks certificates with a context."""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """How this installation reaches other hosts: its proxies, and the TLS settings of the certificates it trusts."""

    proxies: ProxyRules = field(default_factory=ProxyRules)
    context: Callable[[], ssl.SSLContext] = field(default_factory=partial(trust, {}))


VARIABLES = frozenset(
    {*chain.from_iterable(proxies.VARIABLES.values()), *proxies.EXCEPTIONS, *certificates.FILES, certificates.FOLDERS}
)
"""Variables of the environment that `outgoing` reads."""


def outgoing(variables: Mapping[str, str]) -> Outgoing:
    """Return what `variables`, those of the environment, say. Raises BadSetting."""
    return Outgoing(proxies=proxy_rules(variables), context=trust(variables))


class OutgoingTransport(httpx.AsyncBaseTransport):
    """Sends each request directly or through the proxy for its address.

    `dialer` makes direct connections. `destinations` decides what a proxy is asked for; the name by default. An http
    address is forwarded (RFC 9112, section 3.2.2) if the proxy is asked for its name, else it has a tunnel: a proxy
    that forwards resolves the name itself. `open_pool` makes the transport of each way.
    """

    def __init__(
        self,
        outgoing: Outgoing,
        *,
        open_pool: OpenPool | None = None,
        dialer: Dialer | None = None,
        destinations: Destinations = by_name,
    ) -> None:
        self._outgoing = outgoing
        self._open_pool = open_pool or _Pool
        self._dialer = dialer or Dialer()
        self._destinations = destinations
        self._pools: dict[tuple[str, Proxy | None], httpx.AsyncBaseTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises the errors of httpx, of the dialer's guard and of `destinations`."""
        proxy = self._outgoing.proxies.proxy_for(request.url)
        if proxy is None:
            return await self._pool("direct", None).handle_async_request(request)
        if request.url.scheme == "http" and await self._is_by_name(request):
            return await self._forward(request, proxy)
        return await self._pool("tunnel", proxy).handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()

    async def _is_by_name(self, request: httpx.Request) -> bool:
        """Return whether the proxy is asked for the name of the host. The decision counts as a part of connecting."""
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or DEFAULT_PORTS[request.url.scheme]
        try:
            async with connect_timeout(host, request.extensions.get("timeout", {}).get("connect"), {}):
                return list(await self._destinations(host, port)) == [host]
        except httpcore.ConnectTimeout as error:
            raise httpx.ConnectTimeout(str(error)) from error

    async def _forward(self, request: httpx.Request, proxy: Proxy) -> httpx.Response:
        """Send the request to the proxy with its whole address.

        Raises ProxyError if the proxy cannot be connected to or wants a password.
        """
        target = b"http://" + request.url.netloc + request.url.raw_path
        forwarded = httpx.Request(
            request.method,
            httpx.URL(scheme=proxy.scheme, host=proxy.host, port=proxy.port, path="/"),
            headers=[*request.headers.raw, *authorization_headers(proxy)],
            stream=request.stream,
            extensions={**request.extensions, "target": target},
        )
        try:
            response = await self._pool("forward", proxy).handle_async_request(forwarded)
        except httpx.ConnectError as error:
            fault = unreachable_proxy(error)
            raise httpx.ProxyError(str(fault)) from fault
        if response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            await response.aclose()
            refusal = refused_by_proxy(response.status_code)
            raise httpx.ProxyError(str(refusal)) from refusal
        return response

    def _pool(self, kind: str, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
        if (kind, proxy) not in self._pools:
            backend: httpcore.AsyncNetworkBackend = self._dialer if kind == "direct" else Dialer()
            if kind == "tunnel" and proxy is not None:
                backend = TunnelBackend(
                    proxy, dialer=Dialer(), context=self._outgoing.context(), destinations=self._destinations
                )
            self._pools[kind, proxy] = self._open_pool(backend, self._outgoing.context())
        return self._pools[kind, proxy]


class _Pool(httpx.AsyncHTTPTransport):
    """The transport of httpx over `backend`."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=5,
            network_backend=backend,
        )
