"""The providers: requests out, facts in. Nothing else in the code knows their shapes."""

import httpx

from service.errors import BadSetting
from service.ports import Upstream
from service.upstream import vidu, vtrix
from service.upstream.paced import Paced
from service.upstream.vidu import Vidu
from service.upstream.vtrix import Vtrix

__all__ = ["BASE_URLS", "Paced", "Vidu", "Vtrix", "open_upstream"]

BASE_URLS = {"vtrix": vtrix.BASE_URL, "vidu": vidu.BASE_URL}
"""Each provider's own address."""


def open_upstream(
    provider: str, *, client: httpx.AsyncClient, base_url: str | None, key: str, rate: float, concurrency: int
) -> Paced:
    """Return the provider behind one budget: `rate` in requests a second, `concurrency` in requests at once.

    `base_url` None is the provider's own address. The client stays the caller's to close. Raises BadSetting for an
    unknown provider, and for a key or an address that cannot be used.
    """
    if provider not in BASE_URLS:
        raise BadSetting(f"BOOMERANG_PROVIDER is {provider!r}; allowed: {', '.join(BASE_URLS)}")
    adapter: type[Vtrix | Vidu] = Vtrix if provider == "vtrix" else Vidu
    upstream: Upstream = adapter(client, base_url=base_url or BASE_URLS[provider], key=key)
    return Paced(upstream, rate=rate, concurrency=concurrency)
