"""An upstream that notes when it was asked, and a budget around it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, Status, UpstreamId
from service.providers.rate_limited import RateLimitedClient

ID = UpstreamId("1")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
FACT = Fact(status=Status.IN_PROGRESS, upstream_id=ID)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


class FakeProvider:
    """An upstream that notes when it was asked, takes `seconds`, and answers from `script`."""

    name = "double"
    lists = True

    def __init__(self, *script: Exception | None, seconds: float = 0.0) -> None:
        self.script = list(script)
        self.seconds = seconds
        self.asked: list[tuple[float, str]] = []
        self.at_once = 0
        self.most = 0

    async def _answer(self, what: str) -> Fact:
        self.asked.append((now(), what))
        step = self.script.pop(0) if self.script else None
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.at_once -= 1
        if step is not None:
            raise step
        return FACT

    async def create(self, request: ProviderRequest) -> Fact:  # noqa: ARG002 - the port
        """Answer a submission."""
        return await self._answer("create")

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Answer a poll."""
        return await self._answer(upstream_id)

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Answer a cancel."""
        await self._answer(f"cancel {upstream_id}")

    async def find(self, correlation: str, *, since: datetime, until: datetime) -> Fact | None:  # noqa: ARG002 - the port
        """Answer a search."""
        return await self._answer(f"find {correlation}")

    @property
    def times(self) -> list[float]:
        """When it was asked."""
        return [round(at, 3) for at, _ in self.asked]


def rate_limited(
    double: FakeProvider, *, rate: float = 1000.0, concurrency: int = 100, large_bytes: int = 100
) -> RateLimitedClient:
    """Return a budget around the double."""
    return RateLimitedClient(double, rate=rate, concurrency=concurrency, large_bytes=large_bytes)


async def fetches(budget: RateLimitedClient, count: int) -> list[Fact | BaseException]:
    """Ask `count` times at once."""
    asked = (budget.fetch(UpstreamId(str(number))) for number in range(count))
    return await asyncio.gather(*asked, return_exceptions=True)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and see it end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
