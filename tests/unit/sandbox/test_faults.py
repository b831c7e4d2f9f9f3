"""The faults of the sandbox's responses: lost, slow, throttled, truncated, unknown."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from service.sandbox import ConnectionCut, First
from tests.unit.sandbox.test_bench import BEARER, MOVED, bench


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


def one_fault(switch: str) -> dict[str, Any]:
    """Return switches with which a fault occurs once."""
    return {switch: First(1)}


async def test_lost_reply_is_billed() -> None:
    """The connection is cut; the task exists, runs and is billed once."""
    async with bench(run_time=1, lose_create_reply=First(1)) as at:
        with pytest.raises(ConnectionCut):
            await at.create()
        await asyncio.sleep(2)
        lost = at.sandbox.bills[0].upstream_id
        assert (await at.poll(lost)).json()["status"] == "completed"
        assert await at.created() != lost
        assert len(at.sandbox.bills) == 2


async def test_cut_connection_is_a_read_error() -> None:
    """The client receives the httpx error of a dropped connection."""
    async with bench(drop_create=1) as at:
        with pytest.raises(httpx.ReadError):
            await at.create()
        assert at.sandbox.bills == []


@pytest.mark.parametrize(
    ("switch", "status", "billed"),
    [
        ("throttle_create", 429, 0),
        ("html_500_create", 500, 0),
        ("out_of_credit", 403, 0),
        ("bad_gateway_create", 502, 1),
        ("gateway_timeout_create", 504, 1),
        ("half_create_reply", 200, 1),
        ("failed_without_id", 200, 0),
        ("failed_at_once", 200, 1),
        ("completed_at_once", 200, 1),
    ],
)
async def test_each_create_fault_has_its_status_and_bill(switch: str, status: int, billed: int) -> None:
    """An accepted create is billed with any response; a refused one is not."""
    async with bench(**one_fault(switch)) as at:
        assert (await at.create()).status_code == status
        assert len(at.sandbox.bills) == billed
        assert (await at.create()).status_code == 200
        assert len(at.sandbox.bills) == billed + 1


async def test_retry_after_is_optional() -> None:
    """A 429 has Retry-After only if the switch is set."""
    async with bench(throttle_create=1, throttle_poll=1) as at:
        assert "Retry-After" not in (await at.create()).headers
        at.sandbox.turn({"retry_after": "7s"})
        assert (await at.create()).headers["Retry-After"] == "7"
        assert (await at.create_vidu()).json()["reason"] == "TooManyRequests"


async def test_failed_reply_can_lack_its_id() -> None:
    """The reply is failed with an error and has no id."""
    async with bench(failed_without_id=1) as at:
        vtrix, vidu = (await at.create()).json(), (await at.create_vidu()).json()
    assert (vtrix["status"], vidu["state"]) == ("failed", "failed")
    assert vtrix["error"]["code"] == "002014001"
    assert "id" not in vtrix
    assert not {"id", "task_id"} & set(vidu)


async def test_create_reply_can_be_completed() -> None:
    """The create reply already has output and usage."""
    async with bench(completed_at_once=1) as at:
        body = (await at.create()).json()
        assert body["status"] == "completed"
        assert (await at.client.get(body["output"][0]["content"][0]["url"])).status_code == 200


async def test_create_reply_can_be_failed() -> None:
    """The create reply already has an id and an error."""
    async with bench(failed_at_once=1) as at:
        body = (await at.create()).json()
    assert (body["status"], len(body["id"])) == ("failed", 20)


async def test_truncated_reply_is_not_json() -> None:
    """Half of the JSON comes with status 200 and the JSON content type."""
    async with bench(half_create_reply=1, half_poll_reply=1) as at:
        created = await at.create()
        polled = await at.poll(at.sandbox.bills[0].upstream_id)
    for reply in (created, polled):
        assert reply.headers["Content-Type"] == "application/json"
        with pytest.raises(json.JSONDecodeError):
            reply.json()


async def test_slow_create_is_billed_before_its_reply() -> None:
    """The reply is late; the task is billed at once."""
    async with bench(slow_create=1, create_delay=30, run_time=1) as at:
        request = asyncio.create_task(at.create())
        await asyncio.sleep(5)
        assert (len(at.sandbox.bills), request.done()) == (1, False)
        assert (await request).status_code == 200
        assert asyncio.get_running_loop().time() == 30


async def test_slow_poll_reports_the_state_at_its_reply() -> None:
    """The reply is late and reports the state at that time."""
    async with bench(slow_poll=1, poll_delay=30, run_time=10) as at:
        assert (await at.poll(await at.created())).json()["status"] == "completed"
        assert asyncio.get_running_loop().time() == 30


async def test_new_task_can_be_unknown_for_some_time() -> None:
    """Right after the create the task is 404; later it is found."""
    async with bench(unknown_after_create=4) as at:
        task_id = await at.created()
        assert (await at.poll(task_id)).status_code == 404
        await asyncio.sleep(5)
        assert (await at.poll(task_id)).status_code == 200


@pytest.mark.parametrize(
    ("switch", "status"),
    [("throttle_poll", 429), ("html_500_poll", 500), ("bad_gateway_poll", 502), ("gateway_timeout_poll", 504)],
)
async def test_each_poll_fault_has_its_status(switch: str, status: int) -> None:
    """A poll fails as the switch says, and the next one succeeds."""
    async with bench(**one_fault(switch)) as at:
        task_id = await at.created()
        assert [(await at.poll(task_id)).status_code for _ in range(2)] == [status, 200]


async def test_html_page_is_not_json() -> None:
    """The 500 of a proxy is HTML."""
    async with bench(html_500_create=1) as at:
        reply = await at.create()
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.text.startswith("<html>")


async def test_status_can_be_unknown() -> None:
    """Both providers can report an unknown status, once or always."""
    async with bench(unknown_status=First(2)) as at:
        vtrix, vidu = await at.created(), (await at.create_vidu()).json()["task_id"]
        statuses = (await at.poll(vtrix)).json()["status"], (await at.poll_vidu(vidu)).json()["state"]
        assert statuses == ("warming_up", "warming_up")
        assert (await at.poll(vtrix)).json()["status"] == "in_progress"


async def test_types_can_be_loose() -> None:
    """Numbers are strings, the error is a bare string, and usage has undocumented fields."""
    async with bench(run_time=0, loose_types=1, fail_tasks=First(1)) as at:
        failing = await at.created()
        await asyncio.sleep(1)
        completing = await at.created()
        await asyncio.sleep(1)
        failed, completed = (await at.poll(failing)).json(), (await at.poll(completing)).json()
    assert failed["error"] == "video generation failed"
    assert isinstance(completed["created_at"], str)
    assert completed["output"][0]["content"][0]["duration"] == "5"
    assert completed["usage"] == {
        "cost": "0.35",
        "discount": "0.9",
        "quantity": "1",
        "unit_price": "0.35",
        "extra_info": {},
    }


async def test_mixed_errors_have_every_known_shape() -> None:
    """With mixed errors, message, error, detail, envelope, HTML and an empty body all occur."""
    async with bench(mixed_errors=True) as at:
        replies = [await at.poll("unknown") for _ in range(80)]
    assert {reply.status_code for reply in replies} == {404}
    kinds = {frozenset(reply.json()) if reply.text.startswith("{") else reply.text[:6] for reply in replies}
    named = {frozenset({"message"}), frozenset({"error"}), frozenset({"detail"}), frozenset({"status", "data"})}
    assert kinds == named | {"<html>", ""}


async def test_switches_can_be_changed_over_http() -> None:
    """A running sandbox returns its switches and accepts changes; an invalid change has no effect."""
    async with bench() as at:
        changed = await at.client.post("/sandbox/switches", json={"html_500_create": "first 1", "run_time": "1s..2s"})
        assert changed.status_code == 200
        wrong = await at.client.post("/sandbox/switches", json={"html_500_create": 0, "nonsense": 1})
        assert (wrong.status_code, wrong.json()["error"]) == (400, "no switch is called 'nonsense'")
        assert (await at.client.post("/sandbox/switches", json=[])).status_code == 400
        now = (await at.client.get("/sandbox/switches")).json()
        assert (now["html_500_create"], now["run_time"]) == ("first 1", [1.0, 2.0])
        assert [(await at.create()).status_code for _ in range(2)] == [500, 200]


async def test_changed_limit_applies_to_new_tasks() -> None:
    """Vtrix tasks can queue like Vidu's."""
    async with bench(run_time=10) as at:
        at.sandbox.turn({"vtrix_concurrency": 1})
        ids = [await at.created() for _ in range(2)]
        await asyncio.sleep(1)
        assert [(await at.poll(name)).json()["status"] for name in ids] == ["in_progress", "queued"]


async def test_thousand_tasks_with_faults_all_end_and_each_bill_is_one_task() -> None:
    """With lost, doubled and reordered callbacks and lost replies, every task ends, and bills match tasks."""
    faults: dict[str, Any] = {
        "lose_callbacks": 0.3,
        "double_callbacks": 0.2,
        "reorder_callbacks": 0.2,
        "lose_create_reply": 0.05,
    }
    async with bench(run_time=(1, 60), fail_tasks=0.1, **faults) as at:
        lost = 0
        for number in range(1000):
            try:
                await at.create(payload=str(number), callback_url="http://service.test/callbacks/x")
            except ConnectionCut:
                lost += 1
        await asyncio.sleep(200)
        ledger: Any = at.sandbox.ledger()
        bills = at.sandbox.bills
    assert 20 < lost < 80
    assert sorted(int(bill.payload or "") for bill in bills) == list(range(1000))
    assert len({bill.upstream_id for bill in bills}) == 1000
    assert set(ledger["tasks"]) == {"success", "failed"}
    assert sum(ledger["tasks"].values()) == 1000
    counts = ledger["callbacks"]
    assert 500 < counts["lost"] < 700
    assert counts["sent"] == 2000 - counts["lost"] + counts["doubled"] == len(at.receiver.requests)


async def test_ledger_needs_no_key_and_shows_none() -> None:
    """External checks read the ledger; it contains no keys and no callback addresses."""
    async with bench() as at:
        await at.created(callback_url="http://service.test/callbacks/secret-token")
        text = (await at.client.get("/sandbox/ledger")).text
    assert "secret-token" not in text
    assert BEARER["Authorization"].split()[1] not in text
