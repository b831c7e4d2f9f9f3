"""What can be said of a host by its name alone, without asking any name server."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address (IPv6 with or without brackets), is this machine's loopback."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
