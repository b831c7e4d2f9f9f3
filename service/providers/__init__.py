"""The providers: requests out, facts in. Nothing else in the code knows their shapes."""

from collections.abc import Mapping

import httpx

from service.domain.errors import BadSetting
from service.domain.ports.provider import Provider
from service.providers.connection_pool import PooledTransport
from service.providers.rate_limited import RateLimitedClient
from service.providers.vidu.client import Vidu
from service.providers.vtrix.client import Vtrix

__all__ = ["PooledTransport", "RateLimitedClient", "Vidu", "Vtrix", "open_provider"]

ADAPTERS: Mapping[str, type[Vtrix | Vidu]] = {"vtrix": Vtrix, "vidu": Vidu}


def open_provider(
    provider: str, *, client: httpx.AsyncClient, base_url: str, key: str, rate: float, concurrency: int
) -> RateLimitedClient:
    """Return the provider behind one budget: `rate` in requests a second, `concurrency` in requests at once.

    The client stays the caller's to close. Raises BadSetting for an
    unknown provider, and for a key or an address that cannot be used.
    """
    if provider not in ADAPTERS:
        raise BadSetting(f"BOOMERANG_PROVIDER is {provider!r}; allowed: {', '.join(ADAPTERS)}")
    upstream: Provider = ADAPTERS[provider](client, base_url=base_url, key=key)
    return RateLimitedClient(upstream, rate=rate, concurrency=concurrency)
