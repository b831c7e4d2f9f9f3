"""Adapters of the providers: they send requests and return facts. Only this package knows the providers' JSON."""

from collections.abc import Mapping

import httpx

from service.domain.errors import BadSetting
from service.domain.models.catalog import known_models
from service.domain.ports.provider import Provider
from service.providers.connection_health import ConnectionHealth
from service.providers.connection_pool import PooledTransport, connection_opener
from service.providers.rate_limited import RateLimitedClient
from service.providers.vidu.client import Vidu
from service.providers.vtrix.client import Vtrix

__all__ = [
    "ConnectionHealth",
    "PooledTransport",
    "RateLimitedClient",
    "Vidu",
    "Vtrix",
    "connection_opener",
    "open_provider",
    "served_models",
]

ADAPTERS: Mapping[str, type[Vtrix | Vidu]] = {"vtrix": Vtrix, "vidu": Vidu}


def served_models(provider: str) -> tuple[str, ...]:
    """Return the known models that `provider` can run, in the order of the catalog; every one for Vtrix."""
    only = Vidu.models if provider == Vidu.name else known_models()
    return tuple(name for name in known_models() if name in only)


def open_provider(
    provider: str, *, transport: httpx.AsyncBaseTransport, base_url: str, key: str, rate: float, concurrency: int
) -> RateLimitedClient:
    """Return the named provider with limits: `rate` in requests per second, `concurrency` in simultaneous requests.

    The caller closes `transport`. Raises BadSetting for an unknown provider, an unusable key and an unusable address.
    """
    if provider not in ADAPTERS:
        raise BadSetting(f"BOOMERANG_PROVIDER is {provider!r}; allowed: {', '.join(ADAPTERS)}")
    adapter: Provider = ADAPTERS[provider](transport, base_url=base_url, key=key)
    return RateLimitedClient(adapter, rate=rate, concurrency=concurrency)
