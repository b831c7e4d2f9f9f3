"""Parses entries of EGRESS_ALLOW, NOTIFY_ALLOW and EGRESS_DENY, for the settings and for the guard."""

import ipaddress
import re

LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(\.{LABEL})*")
WITH_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")
MAX_PORT = 65_535
INVALID_TARGET = "must be networks and hosts with commas between, like 127.0.0.0/8,media.internal"
INVALID_NETWORK = "must be networks and addresses with commas between, like 203.0.113.0/24,2001:db8::/32"
HOST_BITS_SET = "must have networks with nothing set behind their mask, like 10.0.0.0/8, not 10.0.0.1/8"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def egress_target(text: str) -> tuple[Network | str, int | None]:
    """Return the network or host (in lower case) of an entry of EGRESS_ALLOW or NOTIFY_ALLOW, and its port or None.

    Raises ValueError with what is allowed.
    """
    found = WITH_PORT.fullmatch(text)
    target, port = (found["host"], int(found["port"])) if found else (text, None)
    if port is not None and not 0 < port <= MAX_PORT:
        raise ValueError(INVALID_TARGET)
    text = target.strip("[]")
    if (network := _network(text, strict=True)) is not None:
        return network, port
    if _network(text, strict=False) is not None:
        raise ValueError(HOST_BITS_SET)
    name = text.lower().rstrip(".")
    if HOST_NAME.fullmatch(name) and not name.replace(".", "").isdigit():  # all digits: a malformed address
        return name, port
    raise ValueError(INVALID_TARGET)


def egress_network(text: str) -> Network:
    """Return the network or address of an entry of EGRESS_DENY; raises ValueError with what is allowed."""
    text = text.strip("[]")
    if (network := _network(text, strict=True)) is not None:
        return network
    raise ValueError(INVALID_NETWORK if _network(text, strict=False) is None else HOST_BITS_SET)


def _network(text: str, *, strict: bool) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=strict)
    except ValueError:
        return None
