"""Check of the provider: its certificate, the key, and its clock. One task that nobody has is asked for: it is free."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from service.domain.errors import ProviderUnavailable, Refused, Throttled, UnknownTask
from service.domain.ports.signals import Clock
from service.domain.task import UpstreamId
from service.network.connection_errors import CERTIFICATE
from service.providers import PooledTransport, connection_opener, open_provider
from service.runtime.checks.clocks import compare_clocks
from service.runtime.checks.finding import Finding, Installation, fault, ok, skipped, warning

UNKNOWN_ID = UpstreamId("d000000000000000000g")
"""An id of the provider's form that no task has."""

CERTIFICATE_FIX = "add the authority with BOOMERANG_CA_FILE, or correct BOOMERANG_UPSTREAM_URL"
KEY_FIX = "set BOOMERANG_UPSTREAM_KEY (VTRIX_API_KEY, VIDU_API_KEY) to a valid key of this provider"
SECOND = timedelta(seconds=1)


@dataclass(kw_only=True)
class _DateReader(httpx.AsyncBaseTransport):
    """Passes requests on, and keeps the times of the last response: ours around it, and that of its header Date."""

    inner: httpx.AsyncBaseTransport
    clock: Clock
    times: tuple[datetime, datetime, datetime] | None = field(default=None, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        before = self.clock.now()
        response = await self.inner.handle_async_request(request)
        with suppress(KeyError, ValueError, TypeError):
            date = parsedate_to_datetime(response.headers["date"])
            if date.tzinfo is not None:
                self.times = date.astimezone(UTC), before, self.clock.now()
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


async def check_provider(at: Installation) -> Sequence[Finding]:
    """Check that the provider can be reached and accepts our key, and that its clock agrees with ours."""
    settings = at.settings
    if settings.upstream_key is None:
        return [skipped("there is no key of the provider to check")]
    dates = _DateReader(inner=PooledTransport(connection_opener(at.network)), clock=at.clock)
    async with httpx.AsyncClient(transport=dates, trust_env=False, follow_redirects=False) as client:
        provider = open_provider(
            settings.provider,
            client=client,
            base_url=settings.upstream_url,
            key=settings.upstream_key,
            rate=settings.upstream_rate,
            concurrency=settings.upstream_concurrency,
        )
        host = urlsplit(settings.upstream_url).hostname or ""
        try:
            await provider.fetch(UNKNOWN_ID)
            finding = ok(f"{host} accepts the key")
        except UnknownTask:
            finding = ok(f"{host} accepts the key")
        except Refused as error:
            finding = fault(f"{host} refuses the key: {error}", KEY_FIX)
        except Throttled as error:
            finding = warning(f"{host} asks for fewer requests: {error}", "lower BOOMERANG_UPSTREAM_RATE")
        except ProviderUnavailable as error:
            finding = _unreachable(host, str(error))
    times = dates.times  # the header has whole seconds
    return [finding, *(compare_clocks(host, times[0], times[1] - SECOND, times[2]) if times else [])]


def _unreachable(host: str, reason: str) -> Finding:
    if CERTIFICATE in reason:
        return fault(f"the certificate of {host} is not trusted: {reason.rpartition(': ')[2]}", CERTIFICATE_FIX)
    fix = "check BOOMERANG_UPSTREAM_URL, the name service, firewalls and BOOMERANG_HTTP_PROXY"
    return fault(f"{host} gives no usable answer: {reason}", fix)
