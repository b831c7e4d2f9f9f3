"""The sandbox's Vtrix API: shapes, statuses, refusals and bills."""

import asyncio
import hashlib
import re
from typing import Any

import httpx
import pytest

from service.sandbox.provider_api import BODY_LIMIT
from tests.unit.sandbox.test_bench import BEARER, CALLBACK, MODEL, MOVED, START, bench, moved_now, vtrix_request


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


async def test_task_runs_from_in_progress_to_completed() -> None:
    """The status changes, the progress grows, and the final body has output, usage and metadata."""
    async with bench(run_time=10) as at:
        reply = (await at.create(duration=8)).json()
        assert (reply["status"], reply["model"], reply["progress"]) == ("in_progress", MODEL, 0.0)
        assert re.fullmatch(r"[0-9a-v]{20}", reply["id"])
        await asyncio.sleep(4)
        running = (await at.poll(reply["id"])).json()
        assert (running["status"], running["progress"]) == ("in_progress", 0.4)
        assert not {"output", "usage", "error"} & set(running)
        await asyncio.sleep(7)
        done = (await at.poll(reply["id"])).json()
    assert done["status"] == "completed"
    assert done["usage"] == {"cost": "0.56", "discount": 0.9}
    assert set(done["metadata"]) == {"in_queue_at", "upload_at", "completed_at"}
    content = done["output"][0]["content"][0]
    assert (content["type"], content["duration"], content["jobId"].isdigit()) == ("video", "8", True)
    assert content["url"].startswith(f"http://sandbox.test/files/{reply['id']}.mp4?expires=")


async def test_waiting_task_is_queued() -> None:
    """A queue time shows as queued without progress."""
    async with bench(queue_time=5, run_time=1) as at:
        task_id = await at.created()
        await asyncio.sleep(1)
        waiting = (await at.poll(task_id)).json()
        assert waiting["status"] == "queued"
        assert "progress" not in waiting
        await asyncio.sleep(6)
        assert (await at.poll(task_id)).json()["status"] == "completed"


async def test_failed_task_has_its_error() -> None:
    """A failed task has the published code as a string and no output."""
    async with bench(run_time=1, fail_tasks=1) as at:
        task_id = await at.created()
        await asyncio.sleep(2)
        body = (await at.poll(task_id)).json()
    assert body["status"] == "failed"
    assert body["error"] == {"code": "002014001", "error_message": "video generation failed"}
    assert not {"output", "usage"} & set(body)


async def test_each_poll_returns_a_new_address() -> None:
    """Two polls of a completed task return different addresses, and both work."""
    async with bench(run_time=0) as at:
        task_id = await at.created()
        await asyncio.sleep(1)
        urls = {(await at.poll(task_id)).json()["output"][0]["content"][0]["url"] for _ in range(2)}
        assert len(urls) == 2
        assert {(await at.client.get(url)).status_code for url in urls} == {200}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Token right"}])
async def test_wrong_key_is_refused(headers: dict[str, str]) -> None:
    """A missing key, a wrong key and a wrong scheme are 401 with an error object, and bill nothing."""
    async with bench(key="right") as at:
        reply = await at.client.post("/model/v1/generation", json=vtrix_request(), headers=headers)
        assert reply.status_code == 401
        assert set(reply.json()) == {"error", "request_id"}
        assert set(reply.json()["error"]) == {"code", "message"}
        assert at.sandbox.bills == []


async def test_configured_key_is_accepted() -> None:
    """With a configured key, that key is accepted."""
    async with bench(key="right") as at:
        headers = {"Authorization": "Bearer right"}
        reply = await at.client.post("/model/v1/generation", json=vtrix_request(), headers=headers)
    assert reply.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"model": "viduq2_pro_reference"}',
        b'{"model": "viduq2_pro_reference", "input": [{"params": []}]}',
        b'{"model": "another", "input": [{"params": {"images": ["https://a.test/1"], "prompt": "x"}}]}',
    ],
)
async def test_invalid_body_is_refused(body: bytes) -> None:
    """A body that is not a create of a known model is 400."""
    async with bench() as at:
        reply = await at.client.post("/model/v1/generation", content=body, headers=BEARER)
    assert reply.status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"prompt": "x" * 5001},
        {"images": []},
        {"images": ["https://a.test/1"] * 8},
        {"images": ["https://a.test/1"] * 5, "videos": ["https://a.test/2"]},
        {"videos": ["https://a.test/2"] * 3},
        {"duration": 11},
        {"duration": "5"},
        {"aspect_ratio": "2:1"},
        {"resolution": "4k"},
        {"wm_position": 5},
        {"callback_url": "ftp://a.test"},
    ],
)
async def test_parameters_over_their_limits_are_refused(wrong: dict[str, Any]) -> None:
    """The provider checks requests before it bills them."""
    async with bench() as at:
        reply = await at.create(**wrong)
        assert reply.status_code == 400
        assert at.sandbox.bills == []


async def test_unknown_keys_are_ignored() -> None:
    """Unlike Vidu, the gateway ignores unknown keys."""
    async with bench() as at:
        body = vtrix_request(novel=1) | {"stream": False}
        reply = await at.client.post("/model/v1/generation", json=body, headers=BEARER)
    assert reply.status_code == 200


async def test_request_over_20_mb_is_413() -> None:
    """A body over the limit is refused, with a Content-Length or as a stream."""
    async with bench() as at:
        declared = await at.client.post("/model/v1/generation", content=b" " * (BODY_LIMIT + 1), headers=BEARER)

        async def stream() -> Any:
            for _ in range(21):
                yield b" " * 2**20

        streamed = await at.client.post("/model/v1/generation", content=stream(), headers=BEARER)
        assert (declared.status_code, streamed.status_code) == (413, 413)


async def test_unknown_task_is_404() -> None:
    """A task that does not exist, and a Vidu task with its Vidu id, are unknown."""
    async with bench() as at:
        vidu = (await at.create_vidu()).json()["task_id"]
        assert [(await at.poll(name)).status_code for name in ("d758n65e878c73cmdg20", vidu)] == [404, 404]


async def test_every_accepted_create_is_one_bill() -> None:
    """A bill has id, payload, hash of the callback address and cost of an accepted create."""
    async with bench(run_time=0) as at:
        task_id = await at.created(payload="corr-1", callback_url=CALLBACK, resolution="1080p", duration=10)
        await at.create(prompt="")
        await at.poll(task_id)
        bill = at.sandbox.bills[0]
        ledger = (await at.client.get("/sandbox/ledger")).json()
    assert len(ledger["bills"]) == 1
    assert (bill.upstream_id, bill.payload, bill.cost) == (task_id, "corr-1", "1.50")
    assert ledger["bills"][0]["callback_hash"] == hashlib.sha256(CALLBACK.encode()).hexdigest()
    assert ledger["requests"] == {"create": 2, "fetch": 1, "cancel": 0, "list": 0, "download": 0}


async def test_duration_of_a_result_can_be_a_number() -> None:
    """A switch sends the duration as a number, which the gateway does too."""
    async with bench(run_time=0, numeric_duration=True) as at:
        task_id = await at.created(duration=8)
        await asyncio.sleep(1)
        assert (await at.poll(task_id)).json()["output"][0]["content"][0]["duration"] == 8


async def test_model_list_and_spec_are_enveloped() -> None:
    """The list has the model, and its specification every parameter with a type of the vendor's client."""
    async with bench() as at:
        models = (await at.client.get("/api/v1/skill/models")).json()
        spec = (await at.client.get(f"/api/v1/skill/models/{MODEL}/spec")).json()
        unknown = await at.client.get("/api/v1/skill/models/nothing/spec")
    assert models["status"]["code"] == spec["status"]["code"] == 200
    assert [model["id"] for model in models["data"]["models"]][:1] == [MODEL]
    parameters = spec["data"]["parameters"]
    assert len(parameters) == 15
    assert {each["type"] for each in parameters} == {"array", "string", "boolean", "integer"}
    assert all(isinstance(word, str) for each in parameters for word in each["constraints"].get("enum", ()))
    assert unknown.status_code == 404
    assert unknown.json() == {"status": {"code": 404, "message": "model not found"}, "data": None}


async def test_specification_has_the_fields_of_subjects() -> None:
    """A client that follows the specification can write subjects: their fields are the children."""
    async with bench() as at:
        spec = (await at.client.get("/api/v1/skill/models/viduq2_reference2video/spec")).json()["data"]
    [subjects] = [each for each in spec["parameters"] if each["name"] == "subjects"]
    paths = [each["path"].removeprefix(f"{subjects['path']}[0].") for each in subjects["children"]]
    assert paths == ["id", "images", "voice_id"]


async def test_endpoint_of_the_spec_is_absolute() -> None:
    """The endpoint has the base address of the request, or the public address; the instructions name it too."""
    async with bench() as at:
        path = f"/api/v1/skill/models/{MODEL}/spec"
        spec = (await at.client.get(path, headers={"Host": "models.test:8099"})).json()["data"]
        at.sandbox.turn({"public_url": "https://sandbox.example/"})
        public = (await at.client.get(path)).json()["data"]
        reply = await at.client.post(spec["api"]["endpoint"], json=vtrix_request(), headers=BEARER)
    assert spec["api"]["endpoint"] == "http://models.test:8099/model/v1/generation"
    assert public["api"]["endpoint"] == "https://sandbox.example/model/v1/generation"
    assert f"POST {spec['api']['endpoint']}" in spec["agent_prompt"]
    assert f"GET {spec['api']['endpoint']}/task/ID" in spec["agent_prompt"]
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("query", "found", "shown"),
    [
        ({"type": "video"}, 4, 4),
        ({"type": "image"}, 1, 1),
        ({"keywords": "REFERENCE q2"}, 4, 4),
        ({"keywords": "kling"}, 0, 0),
        ({"keywords": "reference kling"}, 0, 0),
        ({"type": "video", "keywords": "vidu", "page": "1", "page_size": "3"}, 4, 3),
        ({"page": "2"}, 5, 0),
        ({"page": "0", "page_size": "many"}, 5, 5),
    ],
)
async def test_model_list_is_filtered(query: dict[str, str], found: int, shown: int) -> None:
    """Type and every keyword select models; the counts are those of the selection."""
    async with bench() as at:
        page = (await at.client.get("/api/v1/skill/models", params=query)).json()["data"]
    assert (page["total"], len(page["models"])) == (found, shown)
    assert page["total_pages"] == -(-found // page["page_size"])


async def test_equal_seeds_give_equal_runs() -> None:
    """Two runs with one seed give the same ids, outcomes and errors."""

    async def run(seed: int) -> list[str]:
        begin = moved_now()
        async with bench(
            now=lambda: START + (moved_now() - begin), run_time=(1, 9), fail_tasks=0.5, html_500_create=0.3, seed=seed
        ) as at:
            replies = [await at.create() for _ in range(12)]
            await asyncio.sleep(20)
            ids = [reply.json()["id"] for reply in replies if reply.status_code == 200]
            return [f"{name} {(await at.poll(name)).json()['status']}" for name in ids]

    first = await run(1)
    assert await run(1) == first
    assert await run(2) != first


async def test_request_to_a_stopped_sandbox_raises() -> None:
    """A request outside of `running` raises, so that it does not wait for ever."""
    async with bench() as at:
        transport = httpx.ASGITransport(at.sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test") as client:
        with pytest.raises(RuntimeError, match="not running"):
            await client.post("/model/v1/generation", json=vtrix_request(), headers=BEARER)
