"""Detects connections that end at this machine: its public addresses look like those of any other machine."""

import socket
from contextlib import suppress
from typing import Any

NEVER_OWN = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses for documentation, which no machine has: they can be bound only where every address can."""


def is_own_address(local: Any, remote: Any) -> bool:
    """Return whether a connection from `local` to `remote` ends at this machine; both are socket addresses.

    A machine connects to itself from the address that it connects to, unless it has several addresses in one network:
    then it can bind the other address too. A Unix socket or an unknown address is not an address of this kind.
    """
    if not (isinstance(local, tuple) and isinstance(remote, tuple) and local and remote):
        return False
    return local[0] == remote[0] or is_bound_here(str(remote[0]))


def is_bound_here(address: str) -> bool:
    """Return whether this machine has `address`, an IP address without port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return _binds(family, address) and not _binds(family, NEVER_OWN[family])  # Linux: ip_nonlocal_bind


def _binds(family: socket.AddressFamily, address: str) -> bool:
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False
