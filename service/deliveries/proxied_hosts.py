"""What a proxy is asked for on behalf of a handler: the proxy, not this service, makes the connection.

- A host that an entry names (EGRESS_ALLOW, NOTIFY_ALLOW, WEBHOOK_URL) is asked for by its name.
- An address in the URL is checked as without a proxy.
- An address that a client gave (`notify`) is resolved here and checked, and the proxy is asked for a checked address:
  it never resolves a name of a client, which could lead to an internal host there. TLS keeps the name.
- Any other name (a result of the provider, the code of a handler) is checked as far as it resolves here, and the proxy
  is asked for the name, so that it can filter by names. Often only the proxy can resolve it.
"""

import asyncio
import re
from collections.abc import Sequence

from service.deliveries.egress_policy import Egress, EgressRefused, LiteralRefused
from service.deliveries.own_addresses import is_bound_here
from service.network.addresses import Resolve, literal_addresses, resolve_foreign

RESOLVE_SECONDS = 2.0
"""How long a name is resolved that the proxy is asked for anyway: without a reachable name server it takes longer."""

INTERNAL_DOMAINS = frozenset(
    ["corp", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain", "localhost", "onion", "private"]
)
"""Last labels of names that are never public: RFC 6761 and 6762, `internal` (ICANN), and those in common use inside."""

LIKE_AN_ADDRESS = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label with which a host is an IPv4 address or invalid (https://url.spec.whatwg.org/#ends-in-a-number-checker)."""


class ProxiedHosts:
    """Returns what a proxy is asked for to reach a host and port; raises EgressRefused for one that is not allowed."""

    def __init__(self, egress: Egress, *, resolve: Resolve = resolve_foreign) -> None:
        self._egress = egress
        self._resolve = resolve

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the host itself, for the proxy to resolve, or checked addresses of it."""
        name = host.lower().rstrip(".")
        named = self._egress.names(name, port)
        literal = literal_addresses(name)
        by_name = named or not self._egress.pinned
        addresses = literal or await self._resolved(host, port, RESOLVE_SECONDS if by_name else None)
        for address in addresses:
            self._egress.check(name, port, address)
            if is_bound_here(address):
                self._egress.check_own(name, port, address)
        if literal:
            return literal
        if not named:
            self._check_name(name, resolved=bool(addresses))
        return [host] if by_name else addresses

    async def _resolved(self, host: str, port: int, seconds: float | None) -> Sequence[str]:
        """Return the addresses of `host`; none if it has none here or takes longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._resolve(host, port)
        except (OSError, UnicodeError):
            return ()

    def _check_name(self, name: str, *, resolved: bool) -> None:
        """Refuse a name that is or may be internal where the proxy resolves it."""
        last = name.rpartition(".")[2]
        if LIKE_AN_ADDRESS.fullmatch(last):
            raise LiteralRefused(f"{name} is not a valid address")
        if last == name or last in INTERNAL_DOMAINS or name.endswith(".home.arpa"):
            reason = "is an internal name"
        elif self._egress.pinned and not resolved:
            reason = "does not resolve here"
        else:
            return
        raise EgressRefused(f"{name} {reason}: the proxy is not asked for it unless {self._egress.setting} names it")
