"""The mark that a submission has been sent: it decides whether a lost reply may be repeated, so it costs money."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from service.domain.errors import Paused, ReplyLost, Throttled
from tests.support.fake_providers import provider_request
from tests.support.fake_rate_limit import FakeProvider, cancelled, fetches, now, rate_limited
from tests.unit.sandbox.test_bench import MOVED


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


async def test_mark_is_set_after_the_wait_and_before_the_request() -> None:
    """While a submission waits for the rate nothing is marked; then the mark comes before the provider is called."""
    provider = FakeProvider()
    client = rate_limited(provider, rate=1)
    await fetches(client, 1)
    marks: list[tuple[float, int]] = []
    await client.create(provider_request(), sent=lambda: marks.append((round(now(), 3), len(provider.requests))))
    assert marks == [(1, 1)]
    assert provider.times == [0, 1]


async def test_mark_is_set_though_the_reply_is_lost() -> None:
    """A submission whose reply is lost was sent."""
    marks: list[int] = []
    with pytest.raises(ReplyLost):
        await rate_limited(FakeProvider(ReplyLost("cut"))).create(provider_request(), sent=lambda: marks.append(1))
    assert marks == [1]


async def test_mark_that_refuses_prevents_the_request() -> None:
    """If the mark cannot be set, as during a shutdown, nothing is sent."""
    provider = FakeProvider()

    def refuse() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rate_limited(provider).create(provider_request(), sent=refuse)
    assert provider.requests == []


async def test_nothing_is_marked_during_a_pause() -> None:
    """A submission that fails because of the common pause was not sent."""
    client, marks = rate_limited(FakeProvider(Throttled("slow", retry_after=timedelta(hours=1)))), [0]
    await fetches(client, 1)
    with pytest.raises(Paused):
        await client.create(provider_request(), sent=lambda: marks.append(1))
    assert marks == [0]


async def test_nothing_is_marked_by_a_cancelled_wait() -> None:
    """A submission that is cancelled while it waits for a slot was not sent."""
    client, marks = rate_limited(FakeProvider(seconds=10), concurrency=1), [0]
    running = asyncio.create_task(fetches(client, 1))
    await asyncio.sleep(1)
    waiting = asyncio.create_task(client.create(provider_request(), sent=lambda: marks.append(1)))
    await asyncio.sleep(1)
    await cancelled(waiting)
    await running
    assert marks == [0]
