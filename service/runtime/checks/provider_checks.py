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
from service.network.addresses import names_loopback
from service.network.connection_errors import CERTIFICATE
from service.providers import PooledTransport, connection_opener, open_provider
from service.runtime.checks.clocks import compare_clocks
from service.runtime.checks.finding import Finding, Installation, fault, ok, skipped, warning

UNKNOWN_ID = UpstreamId("d000000000000000000g")
"""An id of the provider's form that no task has."""

WRONG_KEY = "boomerang-doctor-key-that-nobody-has"
"""Sent once: a provider that checks keys refuses it, so that its answer to ours means something."""

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
    key, host = at.settings.upstream_key, urlsplit(at.settings.upstream_url).hostname or ""
    if key is None:
        return [skipped("there is no key of the provider to check")]
    dates = _DateReader(inner=PooledTransport(connection_opener(at.network)), clock=at.clock)
    async with dates:
        finding = await _key_finding(dates, at, host, key)
        if finding.outcome == "ok" and (await _key_finding(dates, at, host, WRONG_KEY)).outcome == "ok":
            finding = _accepts_any_key(host)
    times = dates.times  # the header has whole seconds
    return [finding, *(compare_clocks(host, times[0], times[1] - SECOND, times[2]) if times else [])]


async def _key_finding(transport: httpx.AsyncBaseTransport, at: Installation, host: str, key: str) -> Finding:
    """Ask for a task that nobody has, and return what the answer says about the key."""
    settings = at.settings
    provider = open_provider(
        settings.provider,
        transport=transport,
        base_url=settings.upstream_url,
        key=key,
        rate=settings.upstream_rate,
        concurrency=settings.upstream_concurrency,
    )
    try:
        await provider.fetch(UNKNOWN_ID)
    except UnknownTask:
        return ok(f"{host} accepts the key")
    except Refused as error:
        return fault(f"{host} refuses the key: {error}", KEY_FIX)
    except Throttled as error:
        return warning(f"{host} asks for fewer requests: {error}", "lower BOOMERANG_UPSTREAM_RATE")
    except ProviderUnavailable as error:
        return _unreachable(host, str(error))
    return ok(f"{host} accepts the key")


def _accepts_any_key(host: str) -> Finding:
    """Return a finding about an address that answers a wrong key like ours: the sandbox, or no provider at all."""
    if names_loopback(host):
        return ok(f"{host} accepts any key, as the sandbox does")
    return warning(f"{host} accepts any key, so that it may be no provider", "check BOOMERANG_UPSTREAM_URL")


def _unreachable(host: str, reason: str) -> Finding:
    if CERTIFICATE in reason:
        return fault(f"the certificate of {host} is not trusted: {reason.rpartition(': ')[2]}", CERTIFICATE_FIX)
    fix = "check BOOMERANG_UPSTREAM_URL, the name service, firewalls and BOOMERANG_HTTP_PROXY"
    return fault(f"{host} gives no usable answer: {reason}", fix)
