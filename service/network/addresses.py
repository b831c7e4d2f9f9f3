"""The addresses of a host: resolved by the system, or written in the host itself; and the order to try them in."""

import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns every address of a host, at a port; raises OSError when it has none."""

DNS_THREADS = CapacityLimiter(32)
"""Threads that resolve names of the operator: the provider, the proxy."""

FOREIGN_DNS_THREADS = CapacityLimiter(32)
"""Threads that resolve names from elsewhere: their name servers may be slow on purpose, and delay no name of others."""


async def resolve(host: str, port: int) -> list[str]:
    """Return every address of a host of the operator; raises OSError when it has none."""
    return await _look_up(host, port, DNS_THREADS)


async def resolve_foreign(host: str, port: int) -> list[str]:
    """Return every address of a host that a client or the provider named; raises OSError when it has none."""
    return await _look_up(host, port, FOREIGN_DNS_THREADS)


async def _look_up(host: str, port: int, threads: CapacityLimiter) -> list[str]:
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await run_sync(lookup, limiter=threads, abandon_on_cancel=True)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def interleaved(addresses: Sequence[str]) -> list[str]:
    """Return `addresses` with their families in turn, each in its order, the family of the first one first.

    RFC 8305, section 4: a family that leads nowhere delays the other one by one attempt.
    """
    first = [each for each in addresses if _is_ipv6(each) == _is_ipv6(addresses[0])]
    second = [each for each in addresses if _is_ipv6(each) != _is_ipv6(addresses[0])]
    pairs = chain.from_iterable(zip(first, second, strict=False))
    return [*pairs, *first[len(second) :], *second[len(first) :]]


def literal_addresses(host: str) -> Sequence[str]:
    """Return the addresses that `host` denotes without a DNS lookup, in any spelling; none for a name."""
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [str(entry[4][0]) for entry in found]
    return ()


def spellings(address: Address) -> Sequence[Address]:
    """Return `address`, and the IPv4 address that an IPv6 address maps."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (address, mapped) if mapped else (address,)


def names_loopback(host: str) -> bool:
    """Return whether `host` is the loopback of this machine: `localhost`, a name under it, or its address.

    RFC 6761, section 6.3: names under `localhost` are loopback too.
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    found = [each for text in literal_addresses(name) for each in spellings(ip_address(text))]
    return any(each.is_loopback or each.is_unspecified for each in found)


def authority(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ipv6(address: str) -> bool:
    return ":" in address
