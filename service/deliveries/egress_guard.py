"""The egress guard: decides on the resolved address, right before the connection, whether it is allowed.

All connections to URLs from clients and from the provider (webhooks, results) use this guard. It resolves a name once,
checks each of its addresses, and connects to a checked address; a connection that ends at this machine itself is closed
before a byte is sent. Host, SNI and the certificate check keep the name. DNS
rebinding, a change of the name's addresses between check and connection, has no effect. What a proxy is asked for is
decided in `proxied_hosts`.
"""

from collections.abc import Iterable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from service.deliveries.egress_policy import Egress, EgressRefused
from service.deliveries.own_addresses import is_own_address
from service.deliveries.proxied_hosts import ProxiedHosts
from service.network.addresses import Resolve, resolve_foreign
from service.network.dialing import Dialer
from service.network.transport import Outgoing, OutgoingTransport


class GuardedBackend(Dialer):
    """Connects to checked addresses only."""

    def __init__(self, egress: Egress, *, resolve: Resolve = resolve_foreign) -> None:
        super().__init__(_ConnectionGuard(egress), resolve=resolve)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - the interface of httpcore
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - the interface of httpcore
    ) -> httpcore.AsyncNetworkStream:
        """Raise EgressRefused: no URL may lead to a socket file."""
        raise EgressRefused(f"{path} is not a network address")


class _ConnectionGuard:
    """Checks each address before it is connected to, and that the connection does not end at this machine."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self.check = egress.check

    def check_connected(self, host: str, port: int, local: Any, remote: Any) -> None:
        """Raise EgressRefused for a connection to a public address of this machine, unless an entry allows it."""
        if is_own_address(local, remote):
            self._egress.check_own(host, port, remote[0])


class GuardedTransport(OutgoingTransport):
    """A transport that is limited to http, https and the addresses that `egress` allows.

    `resolve` replaces the system's resolver.
    """

    def __init__(self, egress: Egress, *, resolve: Resolve = resolve_foreign, outgoing: Outgoing | None = None) -> None:
        super().__init__(
            outgoing or Outgoing(),
            dialer=GuardedBackend(egress, resolve=resolve),
            destinations=ProxiedHosts(egress, resolve=resolve),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises EgressRefused for another scheme and for an address that is not allowed."""
        if request.url.scheme not in {"http", "https"}:
            raise EgressRefused("only http and https addresses are dialled", request=request)
        return await super().handle_async_request(request)


def client(egress: Egress, *, timeout: float = 15.0, outgoing: Outgoing | None = None) -> httpx.AsyncClient:
    """Return a client for URLs from outside: guarded, without redirects and cookies.

    `outgoing` has the proxies and the trusted certificates; by default no proxy. `timeout` is in seconds, for
    connecting, for each read, each write and the wait for a connection. The caller must limit sizes and total times
    while streaming.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(egress, outgoing=outgoing),
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
