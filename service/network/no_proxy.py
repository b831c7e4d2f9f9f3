"""Which hosts are connected to without the proxy: the entries of NO_PROXY, and always the loopback of this machine.

The meaning of an entry differs between programs. Here it is that of curl (`--noproxy` in its manual): `example.org` and
`.example.org` are the domain and all names under it, a network (CIDR) or address covers hosts that are written as an
address, `*` covers every host. An entry with a port (`example.org:8443`, `[::1]:8080`) counts at this port.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import httpx

from service.network.addresses import literal_addresses, names_loopback, spellings

Network = IPv4Network | IPv6Network

EVERY_HOST = "*"
WITH_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A network or a domain, at one port or (None) at all."""

    target: Network | str
    port: int | None

    def covers(self, host: str, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if isinstance(self.target, str):
            return self.target in {EVERY_HOST, host} or host.endswith(f".{self.target}")
        found = [each for text in literal_addresses(host) for each in spellings(ip_address(text))]
        return any(each in self.target for each in found)


class DirectHosts:
    """The hosts that `text`, the value of NO_PROXY, excludes from the proxy, and the loopback of this machine.

    The parts of `text` are separated by commas or blanks. A part that cannot be read excludes nothing.
    """

    def __init__(self, text: str = "") -> None:
        parts = [part for part in re.split(r"[,\s]+", text) if part]
        self._entries: Sequence[_Entry] = [found for part in parts if (found := _entry(part))]

    def __contains__(self, address: tuple[str, int]) -> bool:
        """Return whether the host and port of `address` are connected to without the proxy."""
        host, port = address[0].lower().rstrip("."), address[1]
        return names_loopback(host) or any(entry.covers(host, port) for entry in self._entries)


def _entry(part: str) -> _Entry | None:
    part = part.partition("://")[2] or part
    found = WITH_PORT.fullmatch(part)
    target, port = (found["host"], int(found["port"])) if found else (part, None)
    with suppress(ValueError):
        return _Entry(target=ip_network(target.replace("[", "").replace("]", ""), strict=False), port=port)
    name = target.lower().removeprefix("*.").strip(".")
    if target == EVERY_HOST or not name:
        return _Entry(target=EVERY_HOST, port=port) if target == EVERY_HOST else None
    with suppress(httpx.InvalidURL, UnicodeError):
        return _Entry(target=httpx.URL(f"http://{name}").raw_host.decode("ascii"), port=port)
    return None
