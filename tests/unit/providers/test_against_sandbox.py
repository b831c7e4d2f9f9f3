"""Each adapter against the stand-in upstream: submit, ask, search and cancel as in real life."""

import asyncio
from collections.abc import Awaitable, Callable
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
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, Status, UpstreamId
from service.providers import RateLimitedClient, open_provider
from tests.unit.sandbox.test_bench import MODEL, MOVED, START, Bench, bench


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in moved time."""
    return MOVED


def upstream(at: Bench, provider: str, *, key: str = "any-key") -> RateLimitedClient:
    """Return the adapter in front of the sandbox."""
    path = "/ent/v2" if provider == "vidu" else ""
    url = f"http://sandbox.test{path}"
    return open_provider(provider, client=at.client, base_url=url, key=key, rate=100, concurrency=8)


def provider_request(payload: str = "token-1") -> ProviderRequest:
    """Return an order that the sandbox takes."""
    params = {"prompt": "a cat", "images": ["https://images.test/a.png"], "duration": 5}
    return ProviderRequest(model=MODEL, params=params, payload=payload, meta_data="{}")


async def until_settled(budget: RateLimitedClient, fact: Fact) -> Fact:
    """Ask once a second until the task has settled."""
    assert fact.upstream_id is not None
    for _ in range(60):
        fact = await budget.fetch(fact.upstream_id or UpstreamId(""))
        if fact.settles:
            return fact
        await asyncio.sleep(1)
    raise AssertionError("the task did not settle within a minute")


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
@pytest.mark.parametrize("loose", [0.0, 1.0])
async def test_a_task_goes_from_order_to_result(provider: str, loose: float) -> None:
    """A submission is accepted, runs, and ends with a video, with loose types too."""
    async with bench(loose_types=loose) as at:
        budget = upstream(at, provider)
        created = await budget.create(provider_request())
        assert created.status is Status.IN_PROGRESS
        settled = await until_settled(budget, created)
        assert settled.status is Status.COMPLETED
        assert settled.upstream_id == created.upstream_id
        assert settled.output[0]["url"].startswith("http://sandbox.test/files/")
        assert len(at.sandbox.bills) == 1


FAULTS: list[tuple[dict[str, Any], type[BoomerangError], int]] = [
    ({"lose_create_reply": 1.0}, ReplyLost, 1),
    ({"bad_gateway_create": 1.0}, ReplyLost, 1),
    ({"gateway_timeout_create": 1.0}, ReplyLost, 1),
    ({"half_create_reply": 1.0}, ReplyLost, 1),
    ({"html_500_create": 1.0}, ReplyLost, 0),
    ({"drop_create": 1.0}, ReplyLost, 0),
    ({"slow_create": 1.0, "create_delay": 300.0}, ReplyLost, 1),
    ({"throttle_create": 1.0}, Throttled, 0),
    ({"throttle_create": 1.0, "retry_after": 7.0}, Throttled, 0),
    ({"out_of_credit": 1.0}, Refused, 0),
    ({"key": "another-key"}, Refused, 0),
]


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
@pytest.mark.parametrize(("switches", "expected", "bills"), FAULTS)
async def test_what_may_have_been_billed_is_never_taken_for_unsent(
    provider: str, switches: dict[str, Any], expected: type[BoomerangError], bills: int
) -> None:
    """Each fault of a submission is classified, and whatever was billed is in doubt."""
    async with bench(**switches) as at:
        with pytest.raises(expected) as caught:
            await upstream(at, provider).create(provider_request())
        assert len(at.sandbox.bills) == bills
        assert not (bills and isinstance(caught.value, NotSent | Throttled | Refused))


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
@pytest.mark.parametrize(
    ("switches", "status"),
    [
        ({"completed_at_once": 1.0}, Status.COMPLETED),
        ({"failed_at_once": 1.0}, Status.FAILED),
        ({"failed_without_id": 1.0}, Status.FAILED),
    ],
)
async def test_a_reply_may_settle_the_task(provider: str, switches: dict[str, Any], status: Status) -> None:
    """A create reply that is an end already is understood, with and without an id."""
    async with bench(**switches) as at:
        fact = await upstream(at, provider).create(provider_request())
        assert fact.status is status
        assert (fact.upstream_id is None) is ("failed_without_id" in switches)


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({"unknown_after_create": 60.0}, UnknownTask),
        ({"throttle_poll": 1.0}, Throttled),
        ({"html_500_poll": 1.0}, ProviderUnavailable),
        ({"bad_gateway_poll": 1.0}, ProviderUnavailable),
        ({"gateway_timeout_poll": 1.0}, ProviderUnavailable),
        ({"half_poll_reply": 1.0}, ProviderUnavailable),
        ({"unknown_status": 1.0}, ProviderUnavailable),
        ({"slow_poll": 1.0, "poll_delay": 60.0}, ProviderUnavailable),
    ],
)
async def test_a_poll_that_says_nothing_fails_no_task(
    provider: str, switches: dict[str, Any], expected: type[BoomerangError]
) -> None:
    """Each fault of a poll is classified as the provider's, never as the task's."""
    async with bench(**switches) as at:
        budget = upstream(at, provider)
        created = await budget.create(provider_request())
        assert created.upstream_id is not None
        with pytest.raises(expected):
            await budget.fetch(created.upstream_id)


async def test_a_submission_whose_reply_was_lost_is_found_in_vidus_list() -> None:
    """Among many tasks, over several pages, the payload token leads back to the paid one."""
    async with bench(lose_create_reply=1.0) as at:
        budget = upstream(at, "vidu")
        with pytest.raises(ReplyLost):
            await budget.create(provider_request("the-lost-one"))
        at.sandbox.turn({"lose_create_reply": 0.0})
        for number in range(60):
            await budget.create(provider_request(f"other-{number}"))
        until = START + timedelta(hours=1)
        found = await budget.find("the-lost-one", since=START, until=until)
        assert found is not None
        settled = await until_settled(budget, found)
        assert settled.correlation == "the-lost-one"
        assert await budget.find("never-sent", since=START, until=until) is None
        assert await budget.find("the-lost-one", since=until, until=until) is None


async def test_vidu_cancels_what_still_waits_and_says_why_otherwise() -> None:
    """A waiting task is cancelled; a second cancel is a conflict with Vidu's words; an unknown task is unknown."""
    async with bench(queue_time=600.0) as at:
        budget = upstream(at, "vidu")
        created = await budget.create(provider_request())
        assert created.upstream_id is not None
        await budget.cancel(created.upstream_id)
        assert (await budget.fetch(created.upstream_id)).status is Status.CANCELED
        await expect(Conflict, budget.cancel, created.upstream_id)
        await expect(UnknownTask, budget.cancel, UpstreamId("999999"))
        await expect(UnknownTask, budget.fetch, UpstreamId("999999"))


async def expect(
    error: type[BoomerangError], call: Callable[[UpstreamId], Awaitable[object]], upstream_id: UpstreamId
) -> None:
    """See the call fail with this error."""
    with pytest.raises(error):
        await call(upstream_id)


async def test_mixed_error_shapes_are_all_refusals() -> None:
    """Whatever shape an error has, a wrong key is a refusal with the status that it came with."""
    async with bench(key="right", mixed_errors=True) as at:
        budget = upstream(at, "vtrix", key="wrong")
        codes = set()
        for _ in range(30):
            with pytest.raises(Refused) as refused:
                await budget.create(provider_request())
            assert refused.value.message
            codes.add(refused.value.code)
        assert "401" in codes


async def test_nobody_listening_is_a_submission_that_never_left() -> None:
    """A refused connection on a real socket may be tried again."""
    async with httpx.AsyncClient(trust_env=False) as client:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        url = f"http://127.0.0.1:{port}"
        budget = open_provider("vtrix", client=client, base_url=url, key="k", rate=10, concurrency=1)
        with pytest.raises(NotSent):
            await budget.create(provider_request())
