"""Connects to the first address of a host that answers, as "happy eyeballs" does (RFC 8305).

A name is resolved once, and its addresses are connected to: a second lookup could give others than those checked.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpcore

from service.network.addresses import Resolve, interleaved, resolve
from service.network.connection_errors import connect_reason

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried beside those that have not answered (RFC 8305, section 5)."""

MAX_ATTEMPTS = 8
"""Addresses of one host that are tried."""

NO_ANSWER = "no answer"
CONNECT_ERRORS = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.ProxyError)
"""Errors after which the next address is tried."""

Dial = Callable[[str], Awaitable[httpcore.AsyncNetworkStream]]
"""Connects to one address."""


class AddressGuard(Protocol):
    """Decides which addresses may be connected to; each method raises an error for one that may not."""

    def check(self, host: str, port: int, address: str) -> None:
        """Check `address`, to which `host` resolved, before it is connected to."""

    def check_connected(self, host: str, port: int, local: Any, remote: Any) -> None:
        """Check both socket addresses of a connection before anything is sent."""


async def connect_to_first(
    addresses: Sequence[str], dial: Dial, failures: dict[str, str]
) -> httpcore.AsyncNetworkStream:
    """Return a connection to the address that answers first; close all others. Nothing is sent on any of them.

    Starts with the first address. The next one is tried as soon as one fails, or after ATTEMPT_DELAY beside it.
    `failures` receives the reason for each address that was tried. Raises the last of CONNECT_ERRORS with all reasons,
    and any other error of `dial` at once.
    """
    waiting = deque(interleaved(addresses)[:MAX_ATTEMPTS])
    attempts: dict[asyncio.Future[httpcore.AsyncNetworkStream], str] = {}
    last: Exception = httpcore.ConnectError("the name has no address")
    try:
        while waiting or attempts:
            if waiting:
                address = waiting.popleft()
                attempts[asyncio.ensure_future(dial(address))] = address
                failures[address] = NO_ANSWER
            pause = ATTEMPT_DELAY if waiting else None
            await asyncio.wait(attempts, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for attempt in [each for each in attempts if each.done()]:
                if (error := attempt.exception()) is None:
                    del attempts[attempt]
                    return attempt.result()
                if not isinstance(error, CONNECT_ERRORS):
                    raise error
                last, failures[attempts.pop(attempt)] = error, connect_reason(error)
    finally:
        await _abandon(attempts)
    try:
        raise last
    except CONNECT_ERRORS as error:
        raise type(error)(_all_reasons(failures) or str(error)) from error


class Dialer(httpcore.AsyncNetworkBackend):
    """Connects to the addresses of a host that `guard` allows; None allows all. `resolve` replaces the resolver."""

    def __init__(self, guard: AddressGuard | None = None, *, resolve: Resolve = resolve) -> None:
        self._guard = guard
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
        """Resolve, check all addresses, connect to one that answers; raises the guard's errors or httpcore's.

        `timeout` is in seconds, for all of it.
        """

        async def dial(address: str) -> httpcore.AsyncNetworkStream:
            return await self._backend.connect_tcp(
                address, port, local_address=local_address, socket_options=socket_options
            )

        failures: dict[str, str] = {}
        async with connect_timeout(host, timeout, failures):
            stream = await connect_to_first(await self._checked_addresses(host, port), dial, failures)
        return await self._checked(stream, host, port)

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
        if self._guard is not None:
            for address in addresses:
                self._guard.check(host, port, address)
        return addresses

    async def _checked(self, stream: httpcore.AsyncNetworkStream, host: str, port: int) -> httpcore.AsyncNetworkStream:
        if self._guard is not None:
            try:
                self._guard.check_connected(
                    host, port, stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")
                )
            except BaseException:
                await stream.aclose()
                raise
        return stream


@asynccontextmanager
async def connect_timeout(host: str, seconds: float | None, failures: dict[str, str]) -> AsyncIterator[None]:
    """Limit the block to `seconds`; after them raises httpcore.ConnectTimeout with the reasons in `failures`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        text, reasons = f"no connection to {host} in {seconds} s", _all_reasons(failures)
        raise httpcore.ConnectTimeout(f"{text}: {reasons}" if reasons else text) from error


def _all_reasons(failures: dict[str, str]) -> str:
    return "; ".join(f"{address}: {reason}" for address, reason in failures.items())


async def _abandon(attempts: Iterable[asyncio.Future[httpcore.AsyncNetworkStream]]) -> None:
    """Cancel the attempts, and close the connections of those that ended at the same moment."""
    attempts = list(attempts)
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, httpcore.AsyncNetworkStream):
            await result.aclose()
