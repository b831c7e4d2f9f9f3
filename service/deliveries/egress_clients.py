"""The HTTP clients of handlers: addresses that clients give have another guard than those of the operator."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

import httpx

from service.deliveries.egress_guard import client
from service.deliveries.egress_policy import DEFAULT_PORTS, Allowed, Egress
from service.deliveries.handler_api import Handler
from service.domain.task import Json
from service.network.addresses import literal_addresses
from service.network.transport import Outgoing


@dataclass(frozen=True, kw_only=True)
class EgressSettings:
    """The entries of EGRESS_ALLOW, NOTIFY_ALLOW and EGRESS_DENY.

    `own_addresses` has the settings that hold an address of the operator (WEBHOOK_URL, ARCHIVE_URL), which needs no
    entry: the handlers that use such a setting may dial its host at its port.
    """

    allow: Collection[str] = ()
    notify_allow: Collection[str] = ()
    deny: Collection[str] = ()
    own_addresses: Mapping[str, str] = field(default_factory=dict, repr=False)

    def for_notify(self) -> Egress:
        """Return the guard of addresses that clients give."""
        return Egress(self.notify_allow, deny=self.deny, setting="NOTIFY_ALLOW", web_ports=True, pinned=True)

    def for_handlers(self, own_address: str | None = None) -> Egress:
        """Return the guard of the operator's handlers, for handlers that use `own_address`."""
        entry = _entry_for(own_address) if own_address else None
        return Egress(self.allow, deny=self.deny, own=[entry] if entry else [])


@dataclass(frozen=True, kw_only=True)
class EgressClients:
    """Guarded clients: for `notify` targets, for handlers, and for handlers that use a setting in `own_addresses`."""

    notify: httpx.AsyncClient
    handlers: httpx.AsyncClient
    own_addresses: Mapping[str, httpx.AsyncClient] = field(default_factory=dict)

    def client_for(self, handler: Handler, target: Json) -> httpx.AsyncClient:
        """Return the client of a delivery; `target` is the `notify` entry that requested it, {} for none."""
        if target:
            return self.notify
        used = [name for name in (*handler.needs, handler.always_with) if name in self.own_addresses]
        return self.own_addresses[used[0]] if used and used[0] else self.handlers


@asynccontextmanager
async def open_egress_clients(
    settings: EgressSettings, outgoing: Outgoing | None = None
) -> AsyncIterator[EgressClients]:
    """Yield the clients for `settings`, which share proxies and certificates; close them afterwards.

    Raises BadSetting.
    """
    outgoing = outgoing or Outgoing()
    async with AsyncExitStack() as stack:

        async def opened(egress: Egress) -> httpx.AsyncClient:
            return await stack.enter_async_context(client(egress, outgoing=outgoing))

        yield EgressClients(
            notify=await opened(settings.for_notify()),
            handlers=await opened(settings.for_handlers()),
            own_addresses={
                name: await opened(settings.for_handlers(url))
                for name, url in settings.own_addresses.items()
                if _entry_for(url)
            },
        )


def _entry_for(url: str) -> Allowed | None:
    """Return the entry that allows the host of `url` at its port, None for a scheme without a default port."""
    address = httpx.URL(url)
    port = address.port or DEFAULT_PORTS.get(address.scheme)
    if not address.host or port is None:
        return None
    literal = literal_addresses(address.host)
    return Allowed(ip_network(literal[0]) if literal else address.raw_host.decode("ascii").lower().rstrip("."), port)
