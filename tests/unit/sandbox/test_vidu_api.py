"""The sandbox's Vidu API: shapes, states, queue, cancel and list."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.unit.sandbox.test_bench import CALLBACK, MOVED, START, TOKEN, Bench, bench


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


def reason(reply: httpx.Response) -> tuple[int, str]:
    """Return an error's status and reason, and check the shape of its body."""
    body = reply.json()
    assert set(body) == {"code", "reason", "message", "metadata"}
    assert body["code"] == reply.status_code
    assert set(body["metadata"]) == {"trace_id"}
    return reply.status_code, body["reason"]


async def listed(at: Bench, **query: Any) -> dict[str, Any]:
    """Return a page of the task list."""
    reply = await at.client.get("/ent/v2/tasks", params=query, headers=TOKEN)
    assert reply.status_code == 200
    page: dict[str, Any] = reply.json()
    return page


async def test_create_reply_has_task_id_and_query_has_id() -> None:
    """The create reply has `task_id` and the inputs; the query has `id` and the creations."""
    async with bench(run_time=2) as at:
        reply = (await at.create_vidu(payload="corr", duration=4, watermark=True)).json()
        assert reply["state"] == "created"
        assert reply["task_id"].isdigit()
        assert (reply["payload"], reply["duration"], reply["images"]) == ("corr", 4, ["https://images.test/a.png"])
        assert datetime.fromisoformat(reply["created_at"]) == START
        assert "id" not in reply
        await asyncio.sleep(1)
        running = (await at.poll_vidu(reply["task_id"])).json()
        await asyncio.sleep(2)
        done = (await at.poll_vidu(reply["task_id"])).json()
    assert (running["state"], running["creations"], running["err_code"]) == ("processing", [], "")
    assert set(done) == {"id", "state", "err_code", "credits", "payload", "bgm", "off_peak", "creations"}
    assert (done["id"], done["state"], done["payload"]) == (reply["task_id"], "success", "corr")
    assert set(done["creations"][0]) == {"id", "url", "cover_url", "watermarked_url"}
    assert all(done["creations"][0].values())


async def test_duration_of_zero_becomes_five() -> None:
    """An automatic duration is priced as five seconds."""
    async with bench() as at:
        automatic, five = [(await at.create_vidu(duration=seconds)).json()["credits"] for seconds in (0, 5)]
    assert automatic == five == 70


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"novel": 1}, "FieldUnwanted"),
        ({"prompt": None}, "FieldLacking"),
        ({"model": "viduq9"}, "FieldInvalid"),
        ({"duration": 11}, "FieldInvalid"),
        ({"images": ["https://a.test/1"] * 8}, "FieldItemCountOutOfRange"),
        ({"videos": ["https://a.test/1"] * 3}, "FieldItemCountOutOfRange"),
    ],
)
async def test_requests_are_refused_with_a_reason(changed: dict[str, Any], expected: str) -> None:
    """Unknown, missing, invalid and too many values each have Vidu's own reason."""
    async with bench() as at:
        assert reason(await at.create_vidu(**changed)) == (400, expected)
        assert at.sandbox.bills == []


async def test_bearer_key_is_refused() -> None:
    """Vidu requires `Token`, not `Bearer`."""
    async with bench() as at:
        reply = await at.client.post("/ent/v2/reference2video", json={}, headers={"Authorization": "Bearer k"})
    assert reason(reply) == (401, "Unauthorized")


async def test_unknown_task_is_task_not_found() -> None:
    """Query and cancel of an unknown task are 404."""
    async with bench() as at:
        assert reason(await at.poll_vidu("17")) == (404, "TaskNotFound")
        cancel = await at.client.post("/ent/v2/tasks/17/cancel", json={"id": "17"}, headers=TOKEN)
        assert reason(cancel) == (404, "TaskNotFound")


async def test_insufficient_credit_is_a_400() -> None:
    """Vidu sends CreditInsufficient with 400; the gateway sends 403."""
    async with bench(out_of_credit=1) as at:
        assert reason(await at.create_vidu()) == (400, "CreditInsufficient")
        assert (await at.create()).status_code == 403


async def test_five_tasks_run_and_others_are_queueing() -> None:
    """The sixth task is accepted and billed, waits in `queueing`, and runs when a slot is free."""
    async with bench(run_time=10) as at:
        ids = [(await at.create_vidu()).json()["task_id"] for _ in range(6)]
        await asyncio.sleep(1)
        states = [(await at.poll_vidu(name)).json()["state"] for name in ids]
        assert states == ["processing"] * 5 + ["queueing"]
        await asyncio.sleep(11)
        assert (await at.poll_vidu(ids[-1])).json()["state"] == "processing"
        await asyncio.sleep(10)
        assert (await at.poll_vidu(ids[-1])).json()["state"] == "success"
        assert len(at.sandbox.bills) == 6


async def test_waiting_task_can_be_canceled_and_a_running_one_cannot() -> None:
    """Cancel returns `{}` and ends a queueing task; a running one is a 400 with Vidu's message."""
    async with bench(run_time=10, vidu_concurrency=1) as at:
        running, waiting = [
            (await at.create_vidu(callback_url=CALLBACK, payload=name)).json()["task_id"] for name in ("a", "b")
        ]
        await asyncio.sleep(1)
        replies = [
            await at.client.post(f"/ent/v2/tasks/{name}/cancel", json={"id": name}, headers=TOKEN)
            for name in (running, waiting)
        ]
        assert reason(replies[0]) == (400, "BadRequest")
        assert replies[0].json()["message"] == "task state is scheduled, can not cancel"
        assert (replies[1].status_code, replies[1].json()) == (200, {})
        canceled = (await at.poll_vidu(waiting)).json()
        assert (canceled["state"], canceled["err_code"]) == ("failed", "UserCancelled")
        await asyncio.sleep(30)
        callbacks = [(body["payload"], body["state"]) for body in at.receiver.bodies]
    assert callbacks == [("a", "processing"), ("b", "failed"), ("a", "success")]


async def test_failed_task_has_an_err_code() -> None:
    """A failure shows in `state` and `err_code`, without creations."""
    async with bench(run_time=0, fail_tasks=1) as at:
        task_id = (await at.create_vidu()).json()["task_id"]
        await asyncio.sleep(1)
        body = (await at.poll_vidu(task_id)).json()
    assert (body["state"], body["err_code"], body["creations"]) == ("failed", "InternalServiceFailure", [])


async def test_list_shows_the_payload_of_a_lost_create() -> None:
    """A create with a lost reply is in the list, newest first, with its payload and time."""
    async with bench(lose_create_reply=1) as at:
        await at.created_lost("lost-1")
        await asyncio.sleep(5)
        await at.created_lost("lost-2")
        tasks = (await listed(at))["tasks"]
        assert [task["payload"] for task in tasks] == ["lost-2", "lost-1"]
        assert datetime.fromisoformat(tasks[1]["created_at"]) == START
        late = await listed(at, **{"created_at.from": (START + timedelta(seconds=1)).isoformat()})
        early = await listed(at, **{"created_at.to": (START + timedelta(seconds=1)).isoformat()})
    assert [task["payload"] for task in late["tasks"]] == ["lost-2"]
    assert [task["payload"] for task in early["tasks"]] == ["lost-1"]


async def test_list_filters_by_state_and_hides_vtrix_tasks() -> None:
    """Only Vidu tasks in the requested states are listed."""
    async with bench(run_time=10) as at:
        await at.create()
        await at.create_vidu(payload="running")
        await asyncio.sleep(11)
        await at.create_vidu(payload="new")
        await asyncio.sleep(1)
        assert [task["payload"] for task in (await listed(at, states="success"))["tasks"]] == ["running"]
        both = await listed(at, states=["success", "processing"])
    assert len(both["tasks"]) == 2


async def test_list_has_pages() -> None:
    """Page numbers and page tokens cover all tasks without a gap."""
    async with bench() as at:
        for number in range(25):
            await at.create_vidu(payload=str(number))
        first = await listed(at)
        second = await listed(at, **{"pager.page_token": first["next_page_token"]})
        third = await listed(at, **{"paper.page": 2, "paper.pagesz": 10})
    seen = [int(task["payload"]) for page in (first, second, third) for task in page["tasks"]]
    assert seen == list(range(24, -1, -1))
    assert third["next_page_token"] == ""


@pytest.mark.parametrize("query", [{"paper.pagesz": 9}, {"paper.pagesz": 101}, {"created_at.from": "then"}])
async def test_list_refuses_invalid_fields(query: dict[str, Any]) -> None:
    """Sizes outside of 10 to 100 and unreadable times are invalid fields."""
    async with bench() as at:
        assert reason(await at.client.get("/ent/v2/tasks", params=query, headers=TOKEN)) == (400, "FieldInvalid")


async def test_inline_media_can_be_omitted_from_the_reply() -> None:
    """The reply returns the inputs unchanged, including data URIs, unless a switch disables it."""
    inline = "data:image/png;base64,AAAA"
    async with bench() as at:
        assert (await at.create_vidu(images=[inline])).json()["images"] == [inline]
        at.sandbox.turn({"echo_inline": False})
        assert (await at.create_vidu(images=[inline])).json()["images"] == []
