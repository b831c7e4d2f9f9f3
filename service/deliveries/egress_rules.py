"""What one entry of EGRESS_ALLOW names: shared by the setting and the guard that obeys it."""

import ipaddress
import re

LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(\.{LABEL})*")
WITH_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")
MOST_PORT = 65_535
NO_TARGET = "must be networks and hosts with commas between, like 127.0.0.0/8,media.internal"
MORE_THAN_ITS_MASK = "must have networks with nothing set behind their mask, like 10.0.0.0/8, not 10.0.0.1/8"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def egress_target(text: str) -> tuple[Network | str, int | None]:
    """Return the network or host (in lower case) that an entry of EGRESS_ALLOW names, and its port if it has one."""
    found = WITH_PORT.fullmatch(text)
    target, port = (found["host"], int(found["port"])) if found else (text, None)
    if port is not None and not 0 < port <= MOST_PORT:
        raise ValueError(NO_TARGET)
    return _network_or_host(target.strip("[]")), port


def _network_or_host(text: str) -> Network | str:
    if (network := _network(text, strict=True)) is not None:
        return network
    if _network(text, strict=False) is not None:
        raise ValueError(MORE_THAN_ITS_MASK)
    name = text.lower().rstrip(".")
    if HOST_NAME.fullmatch(name) and not name.replace(".", "").isdigit():  # no address with a part missing or too large
        return name
    raise ValueError(NO_TARGET)


def _network(text: str, *, strict: bool) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=strict)
    except ValueError:
        return None
