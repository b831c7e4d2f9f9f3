"""Which addresses outgoing connections may use, decided from the host, the port and the resolved address."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

import httpx
import structlog

from service.deliveries.egress_allow_syntax import Network, egress_network, egress_target
from service.domain.errors import BadSetting, Reject
from service.network.addresses import Address, literal_addresses, spellings

log = structlog.get_logger("boomerang.deliveries")

DEFAULT_PORTS = {"http": 80, "https": 443}
FIRST_UNPRIVILEGED_PORT = 1024

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
    """One entry of EGRESS_ALLOW or NOTIFY_ALLOW: a network or a host name, at one port or (None) at all ports."""

    target: Network | str
    port: int | None = None

    def covers(self, host: str, port: int, address: Address) -> bool:
        """Return whether this entry allows a connection to `address`, to which `host` resolved, at `port`."""
        if self.port not in (None, port):
            return False
        if isinstance(self.target, str):
            return self.target == host.lower().rstrip(".")
        return address in self.target

    def may_cover(self, host: str, port: int) -> bool:
        """Return whether this entry names `port`, and `host` or a network that `host` may resolve into."""
        return self.port == port and (not isinstance(self.target, str) or self.target == host.lower().rstrip("."))


class Egress:
    """Allows connections to public addresses, and to those that the operator names.

    `allow` holds networks (`127.0.0.0/8`), addresses and hosts (`media.internal`), each also with a port
    (`media.internal:8080`, `[::1]:8080`). A host covers all addresses that it resolves to. `deny` holds networks that
    are never dialled, whatever `allow` says. `own` are addresses of the operator's settings. `setting` is the name of
    the setting that holds `allow`, for messages. With `web_ports` only the ports 80, 443 and from 1024 are dialled, and
    other ones where an entry names the port. `pinned` is True where a proxy must not resolve names, see `ProxiedHosts`.
    Raises BadSetting for anything else.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        *,
        deny: Iterable[str] = (),
        own: Iterable[Allowed] = (),
        setting: str = "EGRESS_ALLOW",
        web_ports: bool = False,
        pinned: bool = False,
    ) -> None:
        self.setting = f"BOOMERANG_{setting}"
        self.pinned = pinned
        self._allowed = (*own, *[_allowed(text.strip(), self.setting) for text in allow if text.strip()])
        self._denied = tuple(_denied(text.strip()) for text in deny if text.strip())
        self._web_ports = web_ports

    def check(self, host: str, port: int, address: str) -> None:
        """Raise EgressRefused unless a connection to `address`, to which `host` resolved, is allowed at `port`."""
        try:
            found = ip_address(address)
        except ValueError as error:
            raise EgressRefused(f"{host} resolves to something that is not an address") from error
        refused = LiteralRefused if literal_addresses(host) else EgressRefused
        if any(each in network for each in spellings(found) for network in self._denied):
            raise refused(f"{host} is at {found}, which is in a network of BOOMERANG_EGRESS_DENY")
        entries = [entry for entry in self._allowed if entry.covers(host, port, found)]
        if not _public(found) and not entries:
            raise refused(
                f"{host} is at {found}, which is not public: it is not dialled unless {self.setting} names it"
            )
        if not self._dials(port) and not any(entry.port for entry in entries):
            raise refused(self._port_refusal(port))

    def check_own(self, host: str, port: int, address: str) -> None:
        """Raise EgressRefused unless an entry allows `address`, which is an address of this machine."""
        if not any(entry.covers(host, port, ip_address(address)) for entry in self._allowed):
            raise EgressRefused(
                f"{host} is at {address}, an address of this machine: it is not dialled unless {self.setting} names it"
            )

    def names(self, host: str, port: int) -> bool:
        """Return whether an entry names `host` itself, at `port`, so that a proxy may resolve it."""
        name = host.lower().rstrip(".")
        entries = [each for each in self._allowed if each.target == name and each.port in (None, port)]
        return any(each.port or self._dials(port) for each in entries)

    def refusal(self, url: str) -> str | None:
        """Return why `url` can never be allowed; None where it is allowed, or where only a DNS lookup decides.

        Clients read it: it is the same for every refused address, so that it does not show which networks the operator
        excludes. The reason is logged.
        """
        try:
            target = httpx.URL(url)
            port = target.port or DEFAULT_PORTS[target.scheme]
            if not self._dials(port) and not any(entry.may_cover(target.host, port) for entry in self._allowed):
                return self._port_refusal(port)
            for address in literal_addresses(target.host):
                self.check(target.host, port, address)
        except EgressRefused as refused:
            log.info("address refused", reason=str(refused))
            return f"it is an address that is not dialled: only public ones are, unless {self.setting} names them"
        except (httpx.InvalidURL, KeyError, UnicodeError):  # UnicodeError: a host that is not valid IDNA
            return "it cannot be read as an http or https address"
        return None

    def _dials(self, port: int) -> bool:
        return not self._web_ports or port in DEFAULT_PORTS.values() or port >= FIRST_UNPRIVILEGED_PORT

    def _port_refusal(self, port: int) -> str:
        return (
            f"port {port} is not dialled: use 80, 443 or one from {FIRST_UNPRIVILEGED_PORT}, "
            f"unless {self.setting} names the host with this port"
        )


def _public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address.scope_id or address not in GLOBAL_IPV6):
        return False
    return (
        address.is_global and not address.is_multicast and not any(address in network for network in REFUSED_NETWORKS)
    )


def _allowed(text: str, setting: str) -> Allowed:
    try:
        return Allowed(*egress_target(text))
    except ValueError as error:
        raise BadSetting(f"{setting} {error}; {text} is none of these") from error


def _denied(text: str) -> Network:
    try:
        return egress_network(text)
    except ValueError as error:
        raise BadSetting(f"BOOMERANG_EGRESS_DENY {error}; {text} is none of these") from error
