"""The egress guard: decides on the resolved address, right before the connection, whether it is allowed.

All connections to URLs from clients and from the provider (webhooks, results) use this guard. It resolves a name once,
checks each of its addresses, and connects to a checked address; a connection that ends at this machine itself is closed
before a byte is sent. Host, SNI and the certificate check keep the name. DNS
rebinding, a change of the name's addresses between check and connection, has no effect.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore
import httpx
from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from service.deliveries.egress_policy import Egress, EgressRefused
from service.deliveries.own_addresses import is_own_address

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

DNS_THREADS = CapacityLimiter(32)


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
                stream = await self._connect(addresses, port, local_address, socket_options)
                await self._close_if_own(stream, host, port)
                return stream
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

    async def _close_if_own(self, stream: httpcore.AsyncNetworkStream, host: str, port: int) -> None:
        """Close a connection that ends at this machine, at a public address of it for example; raise EgressRefused."""
        local, remote = stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")
        if not is_own_address(local, remote):
            return
        try:
            self._egress.check_own(host, port, remote[0])
        except EgressRefused:
            await stream.aclose()
            raise

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


def client(egress: Egress, *, timeout: float = 15.0, verify: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Return a client for URLs from outside: guarded, without redirects, proxies and cookies.

    `verify` replaces the default certificates. `timeout` is in seconds, for connecting, for each read, each write and
    the wait for a connection. The caller must limit sizes and total times while streaming.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(egress, verify=verify),
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
