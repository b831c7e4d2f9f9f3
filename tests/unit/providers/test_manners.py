"""Each adapter against the sandbox and the manners of its answers: a billed submission is polled to its result."""

import asyncio
from typing import Any

import httpx
import pytest

from service.domain.errors import ProviderUnavailable, Refused
from service.domain.task import Status, UpstreamId
from service.sandbox import First
from tests.unit.providers.test_against_sandbox import open_adapter, provider_request, until_settled
from tests.unit.sandbox.test_bench import MOVED, bench

ANSWERS = ("odd_ids", "odd_words", "odd_progress", "odd_json", "odd_encoding", "wrapped_answers", "odd_results")
CREATES = ("bare_create_reply", "error_status_create")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
@pytest.mark.parametrize(
    "switches", [*({name: 1.0} for name in ANSWERS + CREATES), dict.fromkeys(ANSWERS, 1.0), dict.fromkeys(ANSWERS, 0.5)]
)
async def test_task_completes_in_every_manner(provider: str, switches: dict[str, Any]) -> None:
    """Several tasks, since the shapes are drawn: each is accepted by its id, and its video can be downloaded."""
    async with bench(run_time=3, tiny_videos=True, **switches) as at:
        client = open_adapter(at, provider)
        for number in range(8):
            created = await client.create(provider_request(f"token-{number}"))
            assert (created.status, created.settles) == (Status.IN_PROGRESS, False)
            settled = await until_settled(client, created)
            assert (settled.status, len(settled.output)) == (Status.COMPLETED, 1)
            file = await at.client.get(settled.output[0]["url"])
            assert file.status_code == httpx.codes.OK
        assert len(at.sandbox.bills) == 8


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
async def test_reason_is_read_in_every_shape(provider: str) -> None:
    """A failed task has the provider's reason, wherever it stands."""
    async with bench(fail_tasks=1.0, odd_reasons=1.0, odd_words=1.0, wrapped_answers=0.5) as at:
        client = open_adapter(at, provider)
        for number in range(8):
            settled = await until_settled(client, await client.create(provider_request(f"token-{number}")))
            assert settled.status is Status.FAILED
            assert settled.error is not None
            assert settled.error.message in {"video generation failed", "InternalServiceFailure"}


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
async def test_refusal_in_a_200_is_not_billed(provider: str) -> None:
    """The refusal has its own reason; the next submission is accepted."""
    async with bench(error_in_200_create=First(1)) as at:
        client = open_adapter(at, provider)
        with pytest.raises(Refused, match="402: Insufficient credits"):
            await client.create(provider_request())
        assert not at.sandbox.bills
        await client.create(provider_request())


@pytest.mark.parametrize("switch", ["error_in_200_poll", "other_task_poll"])
async def test_poll_without_an_answer_about_the_task(switch: str) -> None:
    """The poll fails, the next one is answered."""
    switches: dict[str, Any] = {switch: First(1)}
    async with bench(**switches) as at:
        client = open_adapter(at, "vtrix")
        created = await client.create(provider_request())
        assert created.upstream_id is not None
        with pytest.raises(ProviderUnavailable):
            await client.fetch(created.upstream_id)
        assert (await client.fetch(created.upstream_id)).status is Status.IN_PROGRESS


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
async def test_results_follow_the_status_or_never_come(provider: str) -> None:
    """With `result_delay` a completed task has no result at first; with `no_result` it never has one."""
    async with bench(run_time=1, result_delay=30.0, no_result=0.5) as at:
        client = open_adapter(at, provider)
        ids = [(await client.create(provider_request(f"token-{number}"))).upstream_id for number in range(8)]
        await asyncio.sleep(20)
        assert all([(await client.fetch(UpstreamId(one or ""))).without_result for one in ids])
        await asyncio.sleep(60)
        without = [(await client.fetch(UpstreamId(one or ""))).without_result for one in ids]
        assert {True, False} == set(without)
