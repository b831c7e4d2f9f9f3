"""Opens what the service reaches others with: the provider's client, and the clients of handlers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.deliveries.egress_clients import EgressClients, open_egress_clients
from service.network.transport import outgoing
from service.providers import ConnectionHealth, PooledTransport, RateLimitedClient, connection_opener, open_provider
from service.runtime.config.settings import Settings
from service.runtime.handler_settings import egress_settings


@dataclass(frozen=True, kw_only=True)
class OutgoingClients:
    """The clients, which share proxies and certificates; `warnings` returns why the provider is not reached."""

    upstream: RateLimitedClient
    egress: EgressClients
    warnings: Callable[[], Sequence[str]]


@asynccontextmanager
async def open_outgoing_clients(settings: Settings) -> AsyncIterator[OutgoingClients]:
    """Yield the clients for `settings`; close them afterwards. Raises BadSetting."""
    network = outgoing(settings.outgoing)
    async with (
        ConnectionHealth(PooledTransport(connection_opener(network))) as transport,
        open_egress_clients(egress_settings(settings), network) as egress_clients,
    ):
        upstream = open_provider(
            settings.provider,
            transport=transport,
            base_url=settings.upstream_url,
            key=settings.upstream_key or "",
            rate=settings.upstream_rate,
            concurrency=settings.upstream_concurrency,
        )
        yield OutgoingClients(upstream=upstream, egress=egress_clients, warnings=transport.warnings)
