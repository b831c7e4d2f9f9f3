"""The sandbox's callbacks: content, times and faults."""

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from service.sandbox import First
from service.sandbox.callback_sender import on_loopback
from service.sandbox.signing import SIGNED_HEADERS, signature
from tests.unit.sandbox.test_bench import CALLBACK, MOVED, Receiver, bench, moved_now


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


def signed_with(request: httpx.Request, key: str) -> bool:
    """Return whether a callback is signed with the key, over the address that it was sent to."""
    headers = {name: request.headers[name] for name in SIGNED_HEADERS}
    return request.headers["X-HMAC-SIGNATURE"] == signature(key, str(request.url), headers)


async def test_task_sends_callbacks_at_start_and_end() -> None:
    """The body is the task body with payload and meta_data, and goes to the unchanged address."""
    async with bench(run_time=3) as at:
        task_id = await at.created(callback_url=CALLBACK, payload="corr", meta_data='{"a": 1}')
        await asyncio.sleep(5)
        polled = (await at.poll(task_id)).json()
        started, ended = at.receiver.bodies
        assert {str(request.url) for request in at.receiver.requests} == {CALLBACK}
    assert at.receiver.states() == ["in_progress", "completed"]
    assert at.receiver.times == [0, 3]
    assert (ended["payload"], ended["meta_data"], ended["id"]) == ("corr", '{"a": 1}', task_id)
    assert set(ended) == set(polled) | {"payload", "meta_data"}
    assert started["id"] == task_id
    assert at.counted("callbacks", "delivered") == 2


@pytest.mark.parametrize(
    ("switches", "states"),
    [
        ({"callbacks": False}, []),
        ({"final_callbacks_only": True}, ["completed"]),
        ({"lose_callbacks": 1}, []),
        ({"lose_callbacks": First(1)}, ["completed"]),
        ({"double_callbacks": 1}, ["in_progress", "in_progress", "completed", "completed"]),
        ({"reorder_callbacks": 1}, ["completed", "in_progress"]),
        ({"late_callbacks": First(1)}, ["completed", "in_progress"]),
        ({"fail_tasks": 1}, ["in_progress", "failed"]),
        ({"completed_at_once": 1}, ["completed"]),
        ({"failed_at_once": 1}, ["failed"]),
        ({"tamper_body": 1}, ["completed", "failed"]),
    ],
)
async def test_switches_change_number_and_order_of_callbacks(switches: dict[str, Any], states: list[str]) -> None:
    """Each switch changes the callbacks that arrive."""
    async with bench(run_time=3, callback_lateness=60, **switches) as at:
        await at.created(callback_url=CALLBACK, payload="corr")
        await asyncio.sleep(120)
        assert at.receiver.states() == states


async def test_task_without_callback_url_sends_no_callback() -> None:
    """A task without callback_url sends nothing."""
    async with bench(run_time=0) as at:
        await at.created()
        await asyncio.sleep(1)
        assert at.counted("callbacks", "sent") == 0


async def test_lost_callbacks_are_counted() -> None:
    """The counters include lost callbacks."""
    async with bench(run_time=0, lose_callbacks=1) as at:
        await at.created(callback_url=CALLBACK)
        await asyncio.sleep(1)
        assert (at.counted("callbacks", "lost"), at.counted("callbacks", "sent")) == (2, 0)


async def test_only_a_refused_final_callback_is_repeated() -> None:
    """Final callbacks are repeated with a pause until a 2xx; a callback about progress is sent once."""
    receiver = Receiver(answer=lambda _number: httpx.Response(503))
    async with bench(run_time=1, callback_pause=10, receiver=receiver) as at:
        await at.created(callback_url=CALLBACK)
        await asyncio.sleep(120)
        assert receiver.states() == ["in_progress"] + ["completed"] * 4
        assert receiver.times[1:] == [1, 11, 21, 31]
        assert (at.counted("callbacks", "refused"), at.counted("callbacks", "repeated")) == (5, 3)


async def test_first_2xx_ends_the_repeats() -> None:
    """Any 2xx ends the repeats."""
    receiver = Receiver(answer=lambda number: httpx.Response(500 if number < 3 else 202))
    async with bench(run_time=1, receiver=receiver) as at:
        await at.created(callback_url=CALLBACK)
        await asyncio.sleep(60)
    assert receiver.states() == ["in_progress", "completed", "completed"]


async def test_final_callback_waits_for_the_first_one() -> None:
    """The final callback is sent after the receiver has responded to the first one."""
    async with bench(run_time=3, receiver=Receiver(pauses=[10])) as at:
        await at.created(callback_url=CALLBACK)
        await at.sandbox.idle()
        assert at.receiver.times == [0, 10]


async def test_unreachable_receiver_is_counted_not_raised() -> None:
    """A failed connection is counted, and the task still ends."""

    def refuse(_number: int) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with bench(run_time=1, receiver=Receiver(answer=refuse)) as at:
        task_id = await at.created(callback_url=CALLBACK)
        await asyncio.sleep(60)
        assert (await at.poll(task_id)).json()["status"] == "completed"
        assert at.counted("callbacks", "unreachable") == 5


async def test_callback_can_come_before_the_create_reply() -> None:
    """The final callback comes before the create reply, which still reports queued."""
    async with bench(run_time=60, callback_before_reply=1) as at:
        reply = await at.create(callback_url=CALLBACK, payload="corr")
        assert at.receiver.states() == ["completed"]
        assert reply.json()["status"] == "queued"
        assert (await at.poll(reply.json()["id"])).json()["status"] == "completed"


async def test_task_with_lost_reply_sends_callbacks() -> None:
    """After a lost create reply, the callback carries the id and the payload."""
    async with bench(run_time=1, lose_create_reply=1) as at:
        with pytest.raises(httpx.ReadError):
            await at.create(callback_url=CALLBACK, payload="corr")
        await asyncio.sleep(5)
        assert [body["payload"] for body in at.receiver.bodies] == ["corr", "corr"]
        assert at.receiver.bodies[0]["id"] == at.sandbox.bills[0].upstream_id


async def test_native_callback_has_vidus_id_and_signature() -> None:
    """A Vtrix task can send Vidu's body, the id that its output names `jobId`, and a signature with the vendor key."""
    async with bench(run_time=1, native_callbacks=1, vendor_key="vendor") as at:
        task_id = await at.created(callback_url=CALLBACK, payload="corr")
        await asyncio.sleep(5)
        job_id = (await at.poll(task_id)).json()["output"][0]["content"][0]["jobId"]
        assert at.receiver.states() == ["processing", "success"]
        assert {body["id"] for body in at.receiver.bodies} == {job_id}
        assert {body["payload"] for body in at.receiver.bodies} == {"corr"}
        assert job_id != task_id
        assert all(signed_with(request, "vendor") for request in at.receiver.requests)


async def test_vidu_callback_is_signed_with_the_key_of_the_create() -> None:
    """The signature matches the key of the create request, and the date is the current time."""
    async with bench(run_time=1) as at:
        await at.create_vidu(callback_url=CALLBACK)
        await asyncio.sleep(5)
        for request in at.receiver.requests:
            assert signed_with(request, "any-key")
            assert abs((parsedate_to_datetime(request.headers["Date"]) - moved_now()).total_seconds()) < 10
        assert len({request.headers["x-request-nonce"] for request in at.receiver.requests}) == 2


async def test_wrong_key_gives_a_signature_that_does_not_match() -> None:
    """A wrong key gives a signature that does not match."""
    async with bench(run_time=1, wrong_key=1) as at:
        await at.create_vidu(callback_url=CALLBACK)
        await asyncio.sleep(5)
        assert not any(signed_with(request, "any-key") for request in at.receiver.requests)


async def test_stale_callback_has_a_valid_signature() -> None:
    """A stale callback has a valid signature with a date two hours ago."""
    async with bench(run_time=1, stale_date=1) as at:
        await at.create_vidu(callback_url=CALLBACK)
        await asyncio.sleep(5)
        for request in at.receiver.requests:
            assert signed_with(request, "any-key")
            assert (moved_now() - parsedate_to_datetime(request.headers["Date"])).total_seconds() > 7000


async def test_tampered_token_differs_in_one_character() -> None:
    """One character of the last path segment differs, and nothing else."""
    async with bench(run_time=1, tamper_token=1) as at:
        await at.created(callback_url=CALLBACK)
        await asyncio.sleep(5)
        dialled = str(at.receiver.requests[0].url)
        assert len(dialled) == len(CALLBACK)
        assert sum(one != other for one, other in zip(dialled, CALLBACK, strict=True)) == 1
        assert at.counted("callbacks", "tampered") == 2


async def test_tampered_payload_differs_in_one_character() -> None:
    """One character of the payload differs."""
    async with bench(run_time=1, tamper_payload=1) as at:
        await at.created(callback_url=CALLBACK, payload="corr-token")
        await asyncio.sleep(5)
        payload = at.receiver.bodies[0]["payload"]
        assert sum(one != other for one, other in zip(payload, "corr-token", strict=True)) == 1


async def test_tampered_native_body_reports_the_opposite() -> None:
    """A tampered Vidu body also reports the opposite outcome."""
    async with bench(run_time=1, tamper_body=1) as at:
        await at.create_vidu(callback_url=CALLBACK)
        await asyncio.sleep(5)
        assert at.receiver.states() == ["success", "failed"]


async def test_cut_body_is_not_json() -> None:
    """A truncated body is not JSON."""
    async with bench(run_time=1, cut_callbacks=1) as at:
        await at.created(callback_url=CALLBACK)
        await asyncio.sleep(5)
        with pytest.raises(ValueError, match=r"."):
            _ = at.receiver.bodies


async def test_close_cancels_unfinished_work() -> None:
    """Unfinished tasks and callbacks end with the sandbox, and nothing continues to run."""
    before = asyncio.all_tasks()
    async with bench(run_time=1000, late_callbacks=1, callback_lateness=1000) as at:
        for _ in range(5):
            await at.created(callback_url=CALLBACK)
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before
    assert at.receiver.requests == []


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8080/callbacks/x", True),
        ("http://127.9.9.9/x", True),
        ("http://[::1]:8080/x", True),
        ("http://localhost/x", True),
        ("http://localhost.example.org/x", False),
        ("https://example.org/x", False),
        ("http://10.0.0.1/x", False),
        ("http://127.0.0.1@example.org/x", False),
        ("http://[bad/x", False),
        ("nonsense", False),
    ],
)
def test_only_loopback_is_loopback(url: str, *, loopback: bool) -> None:
    """The host itself decides, and no name is resolved."""
    assert on_loopback(url) is loopback
