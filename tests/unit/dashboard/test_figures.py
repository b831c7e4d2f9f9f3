"""The figures of the front page: no page waits for a count that takes long."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from service.dashboard.figures import LatestFigures
from service.domain.errors import StoreUnavailable
from service.domain.ports.health import Gauges
from tests.unit.api.fakes import FakeApplication


@dataclass
class SlowHealth:
    """Figures that are counted once `allowed`; `error` is raised instead."""

    allowed: asyncio.Event = field(default_factory=asyncio.Event)
    counts: int = 0
    error: Exception | None = None

    async def ready(self) -> str | None:
        """Return None."""

    async def gauges(self, now: datetime, *, each: float = 1.0) -> Gauges:
        """Return figures once allowed."""
        self.counts += 1
        await self.allowed.wait()
        if self.error:
            raise self.error
        return await FakeApplication().gauges(now, each=each)


async def test_page_does_not_wait_for_a_long_count() -> None:
    """Pages share one count; while it lasts they show nothing, then its result."""
    health = SlowHealth()
    figures = LatestFigures(health=health, clock=FakeApplication(), each=1.0)
    async with asyncio.timeout(5):
        assert list(await asyncio.gather(figures.latest(), figures.latest())) == [None, None]
        later = figures.latest()
        with pytest.raises(StopIteration):  # a page after the begin of the count waits for nothing
            later.send(None)
        health.allowed.set()
        assert figures._counting is not None
        await asyncio.wait({figures._counting})
        found = await figures.latest()
        assert found == await figures.latest() == FakeApplication().gauges_now
    assert health.counts == 1


async def test_failed_count_is_repeated() -> None:
    """A database that does not answer leaves the figures out; the next page counts again."""
    health = SlowHealth(error=StoreUnavailable("locked"))
    health.allowed.set()
    figures = LatestFigures(health=health, clock=FakeApplication(), each=1.0)
    assert await figures.latest() is None
    health.error = None
    assert await figures.latest() is not None
