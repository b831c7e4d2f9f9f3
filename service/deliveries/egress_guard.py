"""The egress guard: decides on the resolved address, right before the connection, whether it is allowed.

All connections to URLs from clients and from the provider (webhooks, results) use this guard. It resolves a name once,
checks each of its addresses, and connects to a checked address; Host, SNI and the certificate check keep the name. DNS
rebinding, a change of the name's addresses between check and connection, has no effect.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpcore
import httpx
from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from service.deliveries.egress_allow_syntax import Network, egress_target
from service.domain.errors import BadSetting, Reject

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

DEFAULT_PORTS = {"http": 80, "https": 443}
DNS_THREADS = CapacityLimiter(32)

GLOBAL_IPV6 = ip_network("2000::/3")
"""The only globally routed part of IPv6; mapped, translated (NAT64), local and multicast addresses are outside."""

REFUSED_NETWORKS = tuple(
    ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier-grade NAT, and a cloud's metadata service
        "168.63.129.16/32",  # a cloud's metadata service at a public address
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",
        "2001::/23",  # Teredo and other special purposes
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",
        "5f00::/16",
    )
)
"""Networks that `is_global` does not exclude in every supported version of Python."""


class EgressRefused(httpx.RequestError):
    """An address that is not allowed; the message names the setting that allows it."""


class LiteralRefused(EgressRefused, Reject):
    """An address in the URL itself is not allowed: no later lookup can change that, so the delivery is not retried."""


@dataclass(frozen=True)
class Allowed:
    """One entry of EGRESS_ALLOW: a network or a host name, at one port or (None) at all ports."""

    target: Network | str
    port: int | None = None

    def covers(self, host: str, port: int, address: Address) -> bool:
        """Return whether this entry allows a connection to `address`, to which `host` resolved, at `port`."""
        if self.port not in (None, port):
            return False
        if isinstance(self.target, str):
            return self.target == host.lower().rstrip(".")
        return address in self.target


class Egress:
    """Allows connections to public addresses, and to those that the operator names.

    `allow` holds networks (`127.0.0.0/8`), addresses and hosts (`media.internal`), each also with a port
    (`media.internal:8080`, `[::1]:8080`). A host covers all addresses that it resolves to. Raises BadSetting for
    anything else.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allowed = tuple(_allowed(text.strip()) for text in allow if text.strip())

    def check(self, host: str, port: int, address: str) -> None:
        """Raise EgressRefused unless a connection to `address`, to which `host` resolved, is allowed at `port`."""
        try:
            found = ip_address(address)
        except ValueError as error:
            raise EgressRefused(f"{host} resolves to something that is not an address") from error
        if not _public(found) and not any(entry.covers(host, port, found) for entry in self._allowed):
            refused = LiteralRefused if literal_addresses(host) else EgressRefused
            raise refused(
                f"{host} is at {found}, which is not public: it is not dialled unless BOOMERANG_EGRESS_ALLOW names it"
            )

    def refusal(self, url: str) -> str | None:
        """Return why `url` can never be allowed; None where it is allowed, or where only a DNS lookup decides."""
        try:
            target = httpx.URL(url)
            for address in literal_addresses(target.host):
                self.check(target.host, target.port or DEFAULT_PORTS[target.scheme], address)
        except EgressRefused as refused:
            return str(refused)
        except (httpx.InvalidURL, KeyError, UnicodeError):  # UnicodeError: a host that is not valid IDNA
            return "it cannot be read as an http or https address"
        return None


def literal_addresses(host: str) -> Sequence[str]:
    """Return the addresses that `host` denotes without a DNS lookup, in any spelling; none for a name."""
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [str(entry[4][0]) for entry in found]
    return ()


def _public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address.scope_id or address not in GLOBAL_IPV6):
        return False
    return (
        address.is_global and not address.is_multicast and not any(address in network for network in REFUSED_NETWORKS)
    )


def _allowed(text: str) -> Allowed:
    try:
        return Allowed(*egress_target(text))
    except ValueError as error:
        raise BadSetting(f"BOOMERANG_EGRESS_ALLOW {error}; {text} is none of these") from error


async def resolve(host: str, port: int) -> list[str]:
    """Return every address of `host`, as the system resolves it; raises OSError when it has none.

    Uses its own threads, so that slow name servers of foreign hosts never occupy the few threads of the event loop.
    """
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await run_sync(lookup, limiter=DNS_THREADS, abandon_on_cancel=True)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, egress: Egress, *, resolve: Resolve = resolve) -> None:
        self._egress = egress
        self._resolve = resolve
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check all addresses, connect to one that answers; raises EgressRefused or httpcore's errors."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._checked_addresses(host, port)
                return await self._connect(addresses, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection to {host} in {timeout} s") from error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - the interface of httpcore
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - the interface of httpcore
    ) -> httpcore.AsyncNetworkStream:
        """Raise EgressRefused: no URL may lead to a socket file."""
        raise EgressRefused(f"{path} is not a network address")

    async def sleep(self, seconds: float) -> None:
        """Sleep, as the interface requires."""
        await asyncio.sleep(seconds)

    async def _checked_addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise httpcore.ConnectError(f"{host} does not resolve") from error
        for address in addresses:
            self._egress.check(host, port, address)
        return addresses

    async def _connect(
        self,
        addresses: Sequence[str],
        port: int,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        failed: httpcore.ConnectError | None = None
        for address in addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, local_address=local_address, socket_options=socket_options
                )
            except httpcore.ConnectError as error:
                failed = error
        raise failed or httpcore.ConnectError("the name has no address")


class GuardedTransport(httpx.AsyncHTTPTransport):
    """The transport of httpx, limited to http, https and the addresses that `egress` allows.

    `resolve` replaces the system's resolver, and `verify` the default certificates.
    """

    def __init__(self, egress: Egress, *, resolve: Resolve = resolve, verify: ssl.SSLContext | None = None) -> None:
        context = verify or httpx.create_ssl_context()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=5,
            network_backend=GuardedBackend(egress, resolve=resolve),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises EgressRefused for another scheme and for an address that is not allowed."""
        if request.url.scheme not in {"http", "https"}:
            raise EgressRefused("only http and https addresses are dialled", request=request)
        return await super().handle_async_request(request)


def client(egress: Egress, *, timeout: float = 15.0) -> httpx.AsyncClient:
    """Return a client for URLs from outside: guarded, without redirects, proxies and cookies.

    `timeout` is in seconds, for connecting, for each read, each write and the wait for a connection. The caller must
    limit sizes and total times while streaming.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(egress),
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
