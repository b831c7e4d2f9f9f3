"""The limits of all requests to the provider: rate, concurrency and common pauses."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.domain.errors import (
    BoomerangError,
    Conflict,
    NotSent,
    ProviderUnavailable,
    Refused,
    ReplyLost,
    Throttled,
    UnknownTask,
)
from service.domain.task import UpstreamId
from service.providers.rate_limited import RateLimitedClient
from tests.support.fake_providers import MockProvider, provider_request
from tests.support.fake_rate_limit import FACT, ID, SINCE, FakeProvider, cancelled, fetches, now, rate_limited
from tests.unit.sandbox.test_bench import MOVED


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


async def test_requests_keep_the_rate_after_a_burst() -> None:
    """At 10 per second, five requests start at once, then one every tenth of a second, in order of arrival."""
    provider = FakeProvider()
    await fetches(rate_limited(provider, rate=10), 12)
    assert provider.times == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert [what for _, what in provider.requests] == [str(number) for number in range(12)]


@pytest.mark.parametrize("rate", [0.3, 1, 3, 7, 10, 333])
async def test_no_second_exceeds_rate_and_burst(rate: float) -> None:
    """In any window of a second, no more requests start than the rate and its burst allow."""
    provider = FakeProvider()
    await fetches(rate_limited(provider, rate=rate), 40)
    bound = rate + max(1.0, rate * 0.5) + 1e-3
    assert len(provider.requests) == 40
    assert all(sum(start <= at < start + 0.999 for at in provider.times) <= bound + 1 for start in provider.times)
    assert provider.times[-1] >= (40 - max(1.0, rate / 2)) / rate - 0.01


async def test_all_kinds_share_the_limits() -> None:
    """Submissions, polls, cancels and searches wait for each other."""
    provider = FakeProvider()
    client = rate_limited(provider, rate=1)
    await asyncio.gather(
        client.create(provider_request()),
        client.fetch(ID),
        client.cancel(ID),
        client.find("t".__eq__, since=SINCE, until=SINCE),
    )
    assert provider.times == [0, 1, 2, 3]
    assert client.requests == {("create", "ok"): 1, ("fetch", "ok"): 1, ("cancel", "ok"): 1, ("find", "ok"): 1}


async def test_concurrency_is_limited() -> None:
    """No more requests run at once than allowed, and all complete."""
    provider = FakeProvider(seconds=1.0)
    await fetches(rate_limited(provider, concurrency=3), 10)
    assert (provider.max_running, len(provider.requests)) == (3, 10)


async def test_retry_after_pauses_all_requests() -> None:
    """After a throttle no request starts before the pause ends, and none is lost."""
    provider = FakeProvider(Throttled("slow", retry_after=timedelta(seconds=4)))
    client = rate_limited(provider, concurrency=1)
    first, *others = await fetches(client, 4)
    assert isinstance(first, Throttled)
    assert first.retry_after == timedelta(seconds=4)
    assert others == [FACT] * 3
    assert [round(at) for at in provider.times] == [0, 4, 4, 4]


async def test_retry_after_zero_is_ignored() -> None:
    """Retry-After: 0 counts as no named pause: the pauses grow, so that requests do not repeat without a wait."""
    provider = FakeProvider(*[Throttled("slow", retry_after=timedelta()) for _ in range(2)])
    client = rate_limited(provider, concurrency=1)
    (first,) = await fetches(client, 1)
    await asyncio.sleep(1)
    (second,) = await fetches(client, 1)
    pauses = [error.retry_after for error in (first, second) if isinstance(error, Throttled)]
    assert pauses == [timedelta(seconds=1), timedelta(seconds=2)]


async def test_long_pause_fails_requests_at_once() -> None:
    """A request that would wait long fails at once with the remaining pause, and nothing is sent."""
    provider = FakeProvider(Throttled("slow", retry_after=timedelta(seconds=30)))
    client = rate_limited(provider, concurrency=1)
    results = await fetches(client, 4)
    assert [error.retry_after for error in results if isinstance(error, Throttled)] == [timedelta(seconds=30)] * 4
    assert client.requests == {("fetch", "throttled"): 1}
    await asyncio.sleep(26)
    assert await fetches(client, 2) == [FACT] * 2
    assert [round(at) for at in provider.times] == [0, 30, 30]


async def test_unnamed_pauses_double_up_to_a_minute_and_reset_after_success() -> None:
    """The pauses are 1, 2, 4 … 60 s; a success resets them to the first; the error carries each pause."""
    provider = FakeProvider(*[Throttled("slow") for _ in range(9)], None, Throttled("slow"))
    client = rate_limited(provider, rate=1000, concurrency=1)
    pauses: list[float] = []
    for _ in range(11):
        (error,) = await fetches(client, 1)
        if isinstance(error, Throttled) and error.retry_after:
            pauses.append(error.retry_after.total_seconds())
            await asyncio.sleep(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 1]


async def test_simultaneous_throttles_count_once() -> None:
    """Throttles of requests that ran at the same time lengthen the pause once."""
    provider = FakeProvider(*[Throttled("slow") for _ in range(5)], seconds=1.0)
    client = rate_limited(provider, concurrency=5)
    await fetches(client, 6)
    assert provider.times[-1] == pytest.approx(2.0, abs=0.02)


async def test_success_from_before_the_throttle_does_not_reset_the_pause() -> None:
    """Only a request that started after the last throttle resets the pauses."""
    provider = FakeProvider(Throttled("slow"), None, seconds=1.0)
    client = rate_limited(provider, concurrency=2)
    await fetches(client, 2)
    provider.script = [Throttled("slow")]
    (again,) = await fetches(client, 1)
    assert isinstance(again, Throttled)
    assert again.retry_after == timedelta(seconds=2)


@pytest.mark.parametrize("rate", [0.5, 1.0, 3.0, 10.0, 77.0])
@pytest.mark.parametrize("idle", [0.0, 0.05, 0.3, 100.0])
async def test_ready_is_the_number_that_starts_without_waiting(rate: float, idle: float) -> None:
    """Exactly `ready()` requests start at once, after any idle time."""
    provider = FakeProvider()
    client = rate_limited(provider, rate=rate)
    await fetches(client, client.ready())
    await asyncio.sleep(idle)
    start, ready, provider.requests = now(), client.ready(), []
    await fetches(client, ready + 1)
    assert sum(at - start < 1e-5 for at, _ in provider.requests) == ready


@pytest.mark.parametrize(
    ("rate", "concurrency", "spare"),
    [(10.0, 16, 3), (77.0, 16, 8), (1.0, 16, 1), (0.5, 16, 1), (0.4, 16, 0), (10.0, 2, 1), (10.0, 1, 1)],
)
async def test_spare_requests_leave_half_to_others(rate: float, concurrency: int, spare: int) -> None:
    """Half of the burst and of the slots stays free; a rate below one request in two seconds has nothing to spare."""
    client = rate_limited(FakeProvider(), rate=rate, concurrency=concurrency)
    assert client.spare() == spare


async def test_nothing_is_spare_once_the_burst_is_used() -> None:
    """After as many requests as could start at once, those of little importance wait until others could start again."""
    client = rate_limited(FakeProvider(), rate=10.0)
    await fetches(client, client.ready())
    assert client.spare() == 0
    await asyncio.sleep(0.2)
    assert client.spare() <= 0 < client.ready()
    await asyncio.sleep(0.3)
    assert client.spare() == 3


async def test_nothing_is_ready_during_a_pause_or_without_a_free_slot() -> None:
    """A common pause and running requests both reduce `ready()`."""
    provider = FakeProvider(None, Throttled("slow", retry_after=timedelta(seconds=30)), seconds=1)
    client = rate_limited(provider, concurrency=2)
    assert client.ready() == 2
    running = asyncio.ensure_future(client.fetch(ID))
    await asyncio.sleep(0.5)
    assert client.ready() == 1
    await running
    await fetches(client, 1)
    assert client.ready() == 0
    await asyncio.sleep(30)
    assert client.ready() == 2


async def test_remaining_pause_is_readable() -> None:
    """`pause` is the remaining time during which no request starts."""
    client = rate_limited(FakeProvider(Throttled("slow", retry_after=timedelta(seconds=30))))
    assert client.pause == timedelta()
    await fetches(client, 1)
    await asyncio.sleep(10)
    assert client.pause == timedelta(seconds=20)
    await asyncio.sleep(30)
    assert client.pause == timedelta()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotSent("x"), "never_left"),
        (Refused("c", "x"), "refused"),
        (ReplyLost("x"), "reply_lost"),
        (UnknownTask("x"), "unknown_task"),
        (ProviderUnavailable("x"), "unwell"),
        (Conflict("x"), "conflict"),
        (Throttled("x"), "throttled"),
    ],
)
async def test_outcomes_are_counted_and_errors_propagate(error: BoomerangError, outcome: str) -> None:
    """Each error reaches the caller unchanged and is counted under its outcome."""
    client = rate_limited(FakeProvider(error))
    (caught,) = await fetches(client, 1)
    assert caught is error
    assert client.requests == {("fetch", outcome): 1}


@pytest.mark.parametrize("started", [0.0, 0.5])
async def test_cancelled_waiter_frees_its_slot(started: float) -> None:
    """A cancelled waiter, queued or sleeping, neither blocks the next caller nor uses its rate."""
    provider = FakeProvider()
    client = rate_limited(provider, rate=1)
    await client.fetch(ID)
    waiter = asyncio.ensure_future(client.fetch(UpstreamId("waiter")))
    behind = asyncio.ensure_future(client.fetch(UpstreamId("behind")))
    await asyncio.sleep(started)
    await cancelled(waiter)
    await behind
    assert [(round(at, 3), what) for at, what in provider.requests] == [(0, "1"), (1, "behind")]


async def test_cancelled_request_is_counted_and_frees_its_slot() -> None:
    """A request that is cancelled while it runs frees its slot for the next."""
    provider = FakeProvider(seconds=5)
    client = rate_limited(provider, concurrency=1)
    running = asyncio.ensure_future(client.fetch(ID))
    await asyncio.sleep(1)
    await cancelled(running)
    assert await client.fetch(ID) == FACT
    assert client.requests == {("fetch", "cancelled"): 1, ("fetch", "ok"): 1}


async def test_each_page_of_a_list_counts_as_a_request() -> None:
    """A search over three pages is three requests at the rate."""
    pages: Mapping[str, str] = {"": "p2", "p2": "p3", "p3": ""}
    at: list[float] = []

    def reply(request: httpx.Request) -> httpx.Response:
        at.append(round(now(), 3))
        following = pages[request.url.params.get("pager.page_token", "")]
        return httpx.Response(200, json={"tasks": [], "next_page_token": following})

    client = RateLimitedClient(MockProvider(reply).vidu(), rate=1, concurrency=1)
    assert await client.find("token".__eq__, since=SINCE, until=SINCE) is None
    assert at == [0, 1, 2]
    assert client.requests == {("find", "ok"): 3}
    assert client.lists
    assert client.name == "vidu"


async def test_the_loop_does_not_spin_in_virtual_time() -> None:
    """Odd rates leave no rounding error that causes endless short sleeps."""
    for rate in (3.0, 7.0, 9.9, 0.7, 123.4):
        provider = FakeProvider()
        await asyncio.wait_for(fetches(rate_limited(provider, rate=rate), 50), timeout=1000)
        assert len(provider.requests) == 50


async def test_answers_about_the_key_are_counted() -> None:
    """The last answer that says something of the key counts; errors of a task say nothing."""
    seen = []
    for answer in (Refused("401", "x", of_key=True), UnknownTask("x"), ReplyLost("x"), None, Refused("c", "x")):
        client = rate_limited(FakeProvider(answer) if answer else FakeProvider())
        await fetches(client, 1)
        answers = client.key_answers
        seen.append((answers.accepted, answers.rejected, answers.last_rejected))
    assert seen == [(0, 1, True), (0, 0, False), (0, 0, False), (1, 0, False), (0, 0, False)]
