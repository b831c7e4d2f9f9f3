"""Properties of a host that follow from its name alone, without DNS."""

from functools import lru_cache
from ipaddress import ip_address


@lru_cache(maxsize=16)  # most requests to a process name the same host
def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address (IPv6 with or without brackets), is the loopback of this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
