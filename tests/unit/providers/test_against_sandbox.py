"""Each adapter against the sandbox: submit, poll, search and cancel over the real HTTP shapes."""

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
from service.providers import PooledTransport, RateLimitedClient, open_provider
from tests.unit.sandbox.test_bench import MODEL, MOVED, START, Bench, bench


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


def open_adapter(at: Bench, provider: str, *, key: str = "any-key") -> RateLimitedClient:
    """Return the adapter in front of the sandbox."""
    path = "/ent/v2" if provider == "vidu" else ""
    url = f"http://sandbox.test{path}"
    transport = httpx.ASGITransport(at.sandbox.app)
    return open_provider(provider, transport=transport, base_url=url, key=key, rate=100, concurrency=8)


def provider_request(payload: str = "token-1") -> ProviderRequest:
    """Return a request that the sandbox accepts."""
    params = {"prompt": "a cat", "images": ["https://images.test/a.png"], "duration": 5}
    return ProviderRequest(model=MODEL, params=params, payload=payload, meta_data="{}")


async def until_settled(client: RateLimitedClient, fact: Fact) -> Fact:
    """Poll once a second until the task has settled."""
    assert fact.upstream_id is not None
    for _ in range(60):
        fact = await client.fetch(fact.upstream_id or UpstreamId(""))
        if fact.settles:
            return fact
        await asyncio.sleep(1)
    raise AssertionError("the task did not settle within a minute")


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
@pytest.mark.parametrize("loose", [0.0, 1.0])
async def test_task_completes_with_a_video(provider: str, loose: float) -> None:
    """A submission is accepted, runs, and completes with a video, also with loose types."""
    async with bench(loose_types=loose) as at:
        client = open_adapter(at, provider)
        created = await client.create(provider_request())
        assert created.status is Status.IN_PROGRESS
        settled = await until_settled(client, created)
        assert settled.status is Status.COMPLETED
        assert settled.upstream_id == created.upstream_id
        assert settled.output[0]["url"].startswith("http://sandbox.test/files/")
        assert len(at.sandbox.bills) == 1


FAULTS: list[tuple[dict[str, Any], type[BoomerangError], int]] = [
    ({"lose_create_reply": 1.0}, ReplyLost, 1),
    ({"bad_gateway_create": 1.0}, ReplyLost, 1),
    ({"gateway_timeout_create": 1.0}, ReplyLost, 1),
    ({"error_in_200_create": 1.0}, Refused, 0),
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
async def test_possibly_billed_submission_is_never_taken_for_not_sent(
    provider: str, switches: dict[str, Any], expected: type[BoomerangError], bills: int
) -> None:
    """Each fault of a submission is classified, and every billed submission is in doubt."""
    async with bench(**switches) as at:
        with pytest.raises(expected) as caught:
            await open_adapter(at, provider).create(provider_request())
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
async def test_create_reply_can_settle_the_task(provider: str, switches: dict[str, Any], status: Status) -> None:
    """A create reply with a final status is read, with and without an id."""
    async with bench(**switches) as at:
        fact = await open_adapter(at, provider).create(provider_request())
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
        ({"other_task_poll": 1.0}, ProviderUnavailable),
        ({"error_in_200_poll": 1.0}, ProviderUnavailable),
        ({"slow_poll": 1.0, "poll_delay": 60.0}, ProviderUnavailable),
    ],
)
async def test_failed_poll_does_not_fail_the_task(
    provider: str, switches: dict[str, Any], expected: type[BoomerangError]
) -> None:
    """Each fault of a poll is classified as the provider's, never as the task's."""
    async with bench(**switches) as at:
        client = open_adapter(at, provider)
        created = await client.create(provider_request())
        assert created.upstream_id is not None
        with pytest.raises(expected):
            await client.fetch(created.upstream_id)


async def test_submission_with_lost_reply_is_found_in_vidus_list() -> None:
    """Among many tasks on several pages, the payload token identifies the billed task."""
    async with bench(lose_create_reply=1.0) as at:
        client = open_adapter(at, "vidu")
        with pytest.raises(ReplyLost):
            await client.create(provider_request("the-lost-one"))
        at.sandbox.turn({"lose_create_reply": 0.0})
        for number in range(60):
            await client.create(provider_request(f"other-{number}"))
        until = START + timedelta(hours=1)
        found = await client.find("the-lost-one".__eq__, since=START, until=until)
        assert found is not None
        settled = await until_settled(client, found)
        assert settled.correlation == "the-lost-one"
        assert await client.find("never-sent".__eq__, since=START, until=until) is None
        assert await client.find("the-lost-one".__eq__, since=until, until=until) is None


async def test_vidu_cancels_a_waiting_task_and_gives_the_reason_otherwise() -> None:
    """A waiting task is canceled; a second cancel is a conflict with Vidu's message; an unknown task is UnknownTask."""
    async with bench(queue_time=600.0) as at:
        client = open_adapter(at, "vidu")
        created = await client.create(provider_request())
        assert created.upstream_id is not None
        await client.cancel(created.upstream_id)
        assert (await client.fetch(created.upstream_id)).status is Status.CANCELED
        await expect(Conflict, client.cancel, created.upstream_id)
        await expect(UnknownTask, client.cancel, UpstreamId("999999"))
        await expect(UnknownTask, client.fetch, UpstreamId("999999"))


async def expect(
    error: type[BoomerangError], call: Callable[[UpstreamId], Awaitable[object]], upstream_id: UpstreamId
) -> None:
    """Assert that the call raises this error."""
    with pytest.raises(error):
        await call(upstream_id)


async def test_every_error_shape_of_a_wrong_key_is_a_refusal() -> None:
    """A wrong key is Refused with the HTTP status as its code in every error shape."""
    async with bench(key="right", mixed_errors=True) as at:
        client = open_adapter(at, "vtrix", key="wrong")
        codes = set()
        for _ in range(30):
            with pytest.raises(Refused) as refused:
                await client.create(provider_request())
            assert refused.value.message
            codes.add(refused.value.code)
        assert "401" in codes


async def test_refused_connection_is_not_sent() -> None:
    """A refused connection on a real socket is NotSent, so that it may be repeated."""
    async with PooledTransport() as transport:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        url = f"http://127.0.0.1:{port}"
        client = open_provider("vtrix", transport=transport, base_url=url, key="k", rate=10, concurrency=1)
        with pytest.raises(NotSent):
            await client.create(provider_request())
