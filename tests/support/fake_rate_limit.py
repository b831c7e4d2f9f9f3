"""A provider that records its requests, behind a rate limit."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from service.domain.ports.provider import PayloadMatch, ProviderRequest
from service.domain.task import Fact, Status, UpstreamId
from service.providers.rate_limited import RateLimitedClient

ID = UpstreamId("1")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
FACT = Fact(status=Status.IN_PROGRESS, upstream_id=ID)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


class FakeProvider:
    """A provider that records its requests, takes `seconds` per request, and responds from `script`."""

    name = "provider"
    lists = True

    def __init__(self, *script: Exception | None, seconds: float = 0.0) -> None:
        self.script = list(script)
        self.seconds = seconds
        self.requests: list[tuple[float, str]] = []
        self.running = 0
        self.max_running = 0

    async def _respond(self, kind: str) -> Fact:
        self.requests.append((now(), kind))
        step = self.script.pop(0) if self.script else None
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        if step is not None:
            raise step
        return FACT

    async def create(self, request: ProviderRequest) -> Fact:  # noqa: ARG002 - the port
        """Respond to a submission."""
        return await self._respond("create")

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Respond to a poll."""
        return await self._respond(upstream_id)

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Respond to a cancel."""
        await self._respond(f"cancel {upstream_id}")

    async def find(self, matches: PayloadMatch, *, since: datetime, until: datetime) -> Fact | None:  # noqa: ARG002 - the port
        """Respond to a search."""
        return await self._respond("find")

    @property
    def times(self) -> list[float]:
        """When each request came, in seconds."""
        return [round(at, 3) for at, _ in self.requests]


def rate_limited(
    provider: FakeProvider, *, rate: float = 1000.0, concurrency: int = 100, large_bytes: int = 100
) -> RateLimitedClient:
    """Return a rate-limited client of the provider."""
    return RateLimitedClient(provider, rate=rate, concurrency=concurrency, large_bytes=large_bytes)


async def fetches(client: RateLimitedClient, count: int) -> list[Fact | BaseException]:
    """Poll `count` times at once."""
    polls = (client.fetch(UpstreamId(str(number))) for number in range(count))
    return await asyncio.gather(*polls, return_exceptions=True)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait until it ends."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
