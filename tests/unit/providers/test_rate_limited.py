"""One budget for every request: rate, concurrency and common pauses."""

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


async def test_requests_go_at_the_rate_after_a_small_burst() -> None:
    """At 10 a second five go at once, then one every tenth of a second, in the order of asking."""
    double = FakeProvider()
    await fetches(rate_limited(double, rate=10), 12)
    assert double.times == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert [what for _, what in double.asked] == [str(number) for number in range(12)]


@pytest.mark.parametrize("rate", [0.3, 1, 3, 7, 10, 333])
async def test_no_second_sees_more_than_the_rate_and_the_burst(rate: float) -> None:
    """In no window of a second do more requests leave than the rate and its burst allow."""
    double = FakeProvider()
    await fetches(rate_limited(double, rate=rate), 40)
    bound = rate + max(1.0, rate * 0.5) + 1e-3
    assert len(double.asked) == 40
    assert all(sum(start <= at < start + 0.999 for at in double.times) <= bound + 1 for start in double.times)
    assert double.times[-1] >= (40 - max(1.0, rate / 2)) / rate - 0.01


async def test_every_kind_draws_from_the_same_budget() -> None:
    """Submissions, polls, cancels and searches wait for one another."""
    double = FakeProvider()
    budget = rate_limited(double, rate=1)
    await asyncio.gather(
        budget.create(provider_request()),
        budget.fetch(ID),
        budget.cancel(ID),
        budget.find("t", since=SINCE, until=SINCE),
    )
    assert double.times == [0, 1, 2, 3]
    assert budget.requests == {("create", "ok"): 1, ("fetch", "ok"): 1, ("cancel", "ok"): 1, ("find", "ok"): 1}


async def test_concurrency_is_bounded() -> None:
    """No more requests are under way than allowed, and all are made."""
    double = FakeProvider(seconds=1.0)
    await fetches(rate_limited(double, concurrency=3), 10)
    assert (double.most, len(double.asked)) == (3, 10)


async def test_retry_after_stops_everything_for_as_long_as_it_says() -> None:
    """After a throttle no request leaves before the pause has passed, and none is lost."""
    double = FakeProvider(Throttled("slow", retry_after=timedelta(seconds=4)))
    budget = rate_limited(double, concurrency=1)
    first, *others = await fetches(budget, 4)
    assert isinstance(first, Throttled)
    assert first.retry_after == timedelta(seconds=4)
    assert others == [FACT] * 3
    assert [round(at) for at in double.times] == [0, 4, 4, 4]


async def test_a_pause_of_no_time_is_none_that_was_named() -> None:
    """Retry-After: 0 lets nobody ask again at once, and for ever: the pauses grow as where none was named."""
    double = FakeProvider(*[Throttled("slow", retry_after=timedelta()) for _ in range(2)])
    budget = rate_limited(double, concurrency=1)
    (first,) = await fetches(budget, 1)
    await asyncio.sleep(1)
    (second,) = await fetches(budget, 1)
    told = [one.retry_after for one in (first, second) if isinstance(one, Throttled)]
    assert told == [timedelta(seconds=1), timedelta(seconds=2)]


async def test_a_long_pause_holds_nobody_up() -> None:
    """Who would have to wait for long is told so at once, with what is left of the pause; nothing is asked in it."""
    double = FakeProvider(Throttled("slow", retry_after=timedelta(seconds=30)))
    budget = rate_limited(double, concurrency=1)
    told = await fetches(budget, 4)
    assert [one.retry_after for one in told if isinstance(one, Throttled)] == [timedelta(seconds=30)] * 4
    assert budget.requests == {("fetch", "throttled"): 1}
    await asyncio.sleep(26)
    assert await fetches(budget, 2) == [FACT] * 2
    assert [round(at) for at in double.times] == [0, 30, 30]


async def test_throttles_without_a_pause_grow_to_a_minute_and_begin_again_after_a_success() -> None:
    """The pauses are 1, 2, 4 … 60 s; one good answer brings back the first; the caller is told of each."""
    double = FakeProvider(*[Throttled("slow") for _ in range(9)], None, Throttled("slow"))
    budget = rate_limited(double, rate=1000, concurrency=1)
    pauses: list[float] = []
    for _ in range(11):
        (told,) = await fetches(budget, 1)
        if isinstance(told, Throttled) and told.retry_after:
            pauses.append(told.retry_after.total_seconds())
            await asyncio.sleep(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 1]


async def test_a_volley_of_throttles_counts_once() -> None:
    """Requests that were under way together say one thing: the pause after them is the shortest, not the longest."""
    double = FakeProvider(*[Throttled("slow") for _ in range(5)], seconds=1.0)
    budget = rate_limited(double, concurrency=5)
    await fetches(budget, 6)
    assert double.times[-1] == pytest.approx(2.0, abs=0.02)


async def test_a_good_answer_from_before_the_throttle_does_not_shorten_what_follows() -> None:
    """Only a request that left after the last throttle shows that the provider is content again."""
    double = FakeProvider(Throttled("slow"), None, seconds=1.0)
    budget = rate_limited(double, concurrency=2)
    await fetches(budget, 2)
    double.script = [Throttled("slow")]
    (again,) = await fetches(budget, 1)
    assert isinstance(again, Throttled)
    assert again.retry_after == timedelta(seconds=2)


@pytest.mark.parametrize("rate", [0.5, 1.0, 3.0, 10.0, 77.0])
@pytest.mark.parametrize("idle", [0.0, 0.05, 0.3, 100.0])
async def test_ready_is_exactly_what_leaves_without_waiting(rate: float, idle: float) -> None:
    """As many as are said to be ready go at once, and not one more, however long nothing was asked."""
    double = FakeProvider()
    budget = rate_limited(double, rate=rate)
    await fetches(budget, budget.ready())
    await asyncio.sleep(idle)
    start, ready, double.asked = now(), budget.ready(), []
    await fetches(budget, ready + 1)
    assert sum(at - start < 1e-5 for at, _ in double.asked) == ready


async def test_nothing_is_ready_during_a_pause_or_without_a_free_place() -> None:
    """A common pause and requests under way both count."""
    double = FakeProvider(None, Throttled("slow", retry_after=timedelta(seconds=30)), seconds=1)
    budget = rate_limited(double, concurrency=2)
    assert budget.ready() == 2
    running = asyncio.ensure_future(budget.fetch(ID))
    await asyncio.sleep(0.5)
    assert budget.ready() == 1
    await running
    await fetches(budget, 1)
    assert budget.ready() == 0
    await asyncio.sleep(30)
    assert budget.ready() == 2


async def test_the_pause_that_is_left_can_be_read() -> None:
    """Whoever claims work can see that nothing would leave now."""
    budget = rate_limited(FakeProvider(Throttled("slow", retry_after=timedelta(seconds=30))))
    assert budget.pause == timedelta()
    await fetches(budget, 1)
    await asyncio.sleep(10)
    assert budget.pause == timedelta(seconds=20)
    await asyncio.sleep(30)
    assert budget.pause == timedelta()


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
async def test_outcomes_are_counted_and_errors_go_through(error: BoomerangError, outcome: str) -> None:
    """Each error reaches the caller as it is, and is counted under its name."""
    budget = rate_limited(FakeProvider(error))
    (caught,) = await fetches(budget, 1)
    assert caught is error
    assert budget.requests == {("fetch", outcome): 1}


@pytest.mark.parametrize("started", [0.0, 0.5])
async def test_a_cancelled_waiter_frees_its_place(started: float) -> None:
    """A waiter that goes away, queued or sleeping, neither blocks nor spends the rate of the one behind it."""
    double = FakeProvider()
    budget = rate_limited(double, rate=1)
    await budget.fetch(ID)
    waiter = asyncio.ensure_future(budget.fetch(UpstreamId("waiter")))
    behind = asyncio.ensure_future(budget.fetch(UpstreamId("behind")))
    await asyncio.sleep(started)
    await cancelled(waiter)
    await behind
    assert [(round(at, 3), what) for at, what in double.asked] == [(0, "1"), (1, "behind")]


async def test_a_cancelled_request_is_counted_and_frees_its_place() -> None:
    """A request that is cancelled under way makes room for the next."""
    double = FakeProvider(seconds=5)
    budget = rate_limited(double, concurrency=1)
    running = asyncio.ensure_future(budget.fetch(ID))
    await asyncio.sleep(1)
    await cancelled(running)
    assert await budget.fetch(ID) == FACT
    assert budget.requests == {("fetch", "cancelled"): 1, ("fetch", "ok"): 1}


async def test_each_page_of_a_list_is_a_request_of_the_budget() -> None:
    """A search over three pages is three requests at the rate."""
    pages: Mapping[str, str] = {"": "p2", "p2": "p3", "p3": ""}
    at: list[float] = []

    def reply(request: httpx.Request) -> httpx.Response:
        at.append(round(now(), 3))
        following = pages[request.url.params.get("pager.page_token", "")]
        return httpx.Response(200, json={"tasks": [], "next_page_token": following})

    budget = RateLimitedClient(MockProvider(reply).vidu(), rate=1, concurrency=1)
    assert await budget.find("token", since=SINCE, until=SINCE) is None
    assert at == [0, 1, 2]
    assert budget.requests == {("find", "ok"): 3}
    assert budget.lists
    assert budget.name == "vidu"


async def test_the_loop_does_not_spin_in_virtual_time() -> None:
    """Odd rates leave no rounding rest that would be slept for again and again."""
    for rate in (3.0, 7.0, 9.9, 0.7, 123.4):
        double = FakeProvider()
        await asyncio.wait_for(fetches(rate_limited(double, rate=rate), 50), timeout=1000)
        assert len(double.asked) == 50
