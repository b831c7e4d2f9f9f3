"""The sandbox's Vidu API as existing clients use it: endpoints, models, echoes, list, unknown routes."""

import asyncio
from typing import Any

import httpx
import pytest

from service.sandbox.vidu_models import MODELS
from tests.unit.sandbox.test_bench import CALLBACK, MOVED, TOKEN, Bench, bench
from tests.unit.sandbox.test_vidu_api import listed, reason

IMAGE = "https://images.test/a.png"
DOCUMENTED = {
    "task_id",
    "state",
    "model",
    "prompt",
    "images",
    "duration",
    "seed",
    "aspect_ratio",
    "resolution",
    "bgm",
    "audio",
    "movement_amplitude",
    "payload",
    "off_peak",
    "credits",
    "watermark",
    "created_at",
}
"""Fields of a create reply in the documentation of Vidu."""

VALID: dict[str, dict[str, Any]] = {
    "reference2video": {"model": "viduq2", "prompt": "a cat", "images": [IMAGE]},
    "text2video": {"model": "viduq2", "prompt": "a cat", "style": "general"},
    "img2video": {"model": "viduq2-turbo", "images": [IMAGE], "audio": True, "voice_id": "host", "is_rec": False},
    "start-end2video": {"model": "viduq2-turbo", "images": [IMAGE, IMAGE]},
    "template": {"template": "hugging", "images": [IMAGE], "prompt": "", "aspect_ratio": "", "seed": 0},
    "template2video": {"template": "hugging", "images": [IMAGE], "beast": "bear"},
}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


async def post(at: Bench, endpoint: str, **body: Any) -> httpx.Response:
    """Create a task at an endpoint."""
    return await at.client.post(f"/ent/v2/{endpoint}", json=body, headers=TOKEN)


async def finished(at: Bench, reply: httpx.Response) -> dict[str, Any]:
    """Return the query body of a created task after its end."""
    assert reply.status_code == 200, reply.text
    await asyncio.sleep(5)
    body: dict[str, Any] = (await at.poll_vidu(reply.json()["task_id"])).json()
    return body


@pytest.mark.parametrize("endpoint", VALID)
async def test_each_endpoint_makes_a_video(endpoint: str) -> None:
    """A task of each endpoint ends with a video, sends its callback, and is billed once."""
    async with bench() as at:
        reply = await post(at, endpoint, **VALID[endpoint], callback_url=CALLBACK)
        done = await finished(at, reply)
        video = await at.client.get(done["creations"][0]["url"])
        assert reply.json().keys() >= DOCUMENTED
        assert (done["state"], video.status_code) == ("success", 200)
        assert at.receiver.states() == ["processing", "success"]
        assert len(at.sandbox.bills) == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("endpoint", ["reference2video", "text2video", "img2video", "start-end2video"])
async def test_each_model_has_its_defaults(endpoint: str, model: str) -> None:
    """A request with a model alone gets the model's documented length and resolution."""
    body = {name: value for name, value in VALID[endpoint].items() if name in {"images", "prompt"}}
    async with bench() as at:
        reply = (await post(at, endpoint, model=model, **body)).json()
    expected = {"q3": (5, "720p"), "q2": (5, "720p"), "q1": (5, "1080p"), "2.0": (4, "360p"), "1.5": (4, "360p")}
    assert (reply["duration"], reply["resolution"]) == expected[MODELS[model].version]


async def test_long_videos_of_old_models_have_another_resolution() -> None:
    """Eight seconds of vidu2.0 are 720p by default, and no other resolution is accepted."""
    async with bench() as at:
        reply = await post(at, "img2video", model="vidu2.0", images=[IMAGE], duration=8)
        wrong = await post(at, "img2video", model="vidu2.0", images=[IMAGE], duration=8, resolution="1080p")
    assert reply.json()["resolution"] == "720p"
    assert reason(wrong) == (400, "FieldInvalid")


@pytest.mark.parametrize("amplitude", ["auto", "small", "medium", "large"])
async def test_movement_amplitude_is_echoed(amplitude: str) -> None:
    """The create reply and the list show the given amplitude; without one it is auto."""
    async with bench() as at:
        given = (await at.create_vidu(movement_amplitude=amplitude)).json()
        missing = (await at.create_vidu()).json()
        entries = (await listed(at))["tasks"]
    assert (given["movement_amplitude"], missing["movement_amplitude"]) == (amplitude, "auto")
    assert [entry["movement_amplitude"] for entry in entries] == ["auto", amplitude]


async def test_create_reply_has_every_documented_field() -> None:
    """Missing parameters have their defaults, the seed a drawn number, and the time ends in Z."""
    async with bench() as at:
        reply = (await at.create_vidu()).json()
        drawn = (await at.create_vidu(seed=0)).json()
        given = (await at.create_vidu(seed=7, payload=None)).json()
    assert set(reply) == DOCUMENTED
    assert reply["created_at"] == "2026-05-06T12:00:00.000000Z"
    assert (reply["bgm"], reply["audio"], reply["off_peak"], reply["watermark"]) == (False,) * 4
    assert (reply["aspect_ratio"], reply["payload"], given["payload"]) == ("16:9", "", "")
    assert len({0, reply["seed"], drawn["seed"], given["seed"]}) == 4
    assert given["seed"] == 7


@pytest.mark.parametrize(
    ("endpoint", "changed", "expected"),
    [
        ("text2video", {"prompt": ""}, "FieldLacking"),
        ("text2video", {"images": [IMAGE]}, "FieldUnwanted"),
        ("text2video", {"style": "oil"}, "FieldInvalid"),
        ("text2video", {"prompt": "x" * 2001}, "FieldInvalid"),
        ("text2video", {"movement_amplitude": "huge"}, "FieldInvalid"),
        ("text2video", {"model": None}, "FieldLacking"),
        ("text2video", {"model": ["viduq2"]}, "FieldInvalid"),
        ("text2video", {"duration": True}, "FieldInvalid"),
        ("text2video", {"duration": 11}, "FieldInvalid"),
        ("text2video", {"model": "viduq1", "resolution": "720p"}, "FieldInvalid"),
        ("text2video", {"model": "viduq1", "duration": 8}, "FieldInvalid"),
        ("img2video", {"images": [IMAGE, IMAGE]}, "FieldItemCountOutOfRange"),
        ("img2video", {"images": []}, "FieldLacking"),
        ("img2video", {"videos": [IMAGE]}, "FieldUnwanted"),
        ("img2video", {"audio": "yes"}, "FieldInvalid"),
        ("start-end2video", {"images": [IMAGE]}, "FieldItemCountOutOfRange"),
        ("start-end2video", {"aspect_ratio": "2:1"}, "FieldInvalid"),
        ("reference2video", {"subjects": [{"id": "1"}]}, "FieldInvalid"),
        ("reference2video", {"subjects": ["1"]}, "FieldInvalid"),
        ("reference2video", {"template": "hugging"}, "FieldUnwanted"),
        ("template", {"template": ""}, "FieldLacking"),
    ],
)
async def test_invalid_values_are_refused_with_a_reason(endpoint: str, changed: dict[str, Any], expected: str) -> None:
    """Each endpoint refuses missing, invalid, unwanted and too many values in Vidu's shape, and bills nothing."""
    async with bench() as at:
        assert reason(await post(at, endpoint, **VALID[endpoint] | changed)) == (400, expected)
        assert at.sandbox.bills == []


async def test_subjects_replace_images() -> None:
    """A request with subjects needs no images of its own."""
    subject = {"id": "1", "images": [IMAGE, IMAGE], "voice_id": ""}
    async with bench() as at:
        done = await finished(at, await post(at, "reference2video", model="viduq2", prompt="@1", subjects=[subject]))
    assert done["state"] == "success"


async def test_list_filters_by_every_documented_field() -> None:
    """Ids, resolutions, model versions and templates select tasks; values are repeated or separated by commas."""
    async with bench() as at:
        ids = [
            (await post(at, "text2video", model="viduq2", prompt="a", resolution="540p")).json()["task_id"],
            (await post(at, "img2video", model="viduq1", images=[IMAGE])).json()["task_id"],
            (await post(at, "template", template="hugging", images=[IMAGE])).json()["task_id"],
        ]

        async def found(**query: Any) -> list[int]:
            return sorted(ids.index(task["id"]) for task in (await listed(at, **query))["tasks"])

        assert await found() == [0, 1, 2]
        assert await found(task_ids=[ids[0], ids[2]]) == [0, 2]
        assert await found(task_ids=f"{ids[1]},{ids[2]}") == [1, 2]
        assert await found(task_ids="unknown") == []
        assert await found(resolutions="540p") == [0]
        assert await found(resolutions=["540p", "1080p"]) == [0, 1]
        assert await found(model_versions="q1") == [1]
        assert await found(model_versions=["viduq2", "2.0"]) == [0, 2]
        assert await found(templates="hugging") == [2]
        assert await found(templates="kissing") == []
        assert await found(templates="hugging", resolutions="540p") == []
        assert await found(states="created") == await found(states=["created", "failed"])


async def test_entry_of_the_list_has_every_documented_field() -> None:
    """An entry shows type, model, inputs, time and results, and no inline image."""
    async with bench() as at:
        images = [IMAGE, "data:image/png;base64,AAAA"]
        await finished(at, await post(at, "start-end2video", model="viduq2-pro", images=images, prompt="fly"))
        (entry,) = (await listed(at))["tasks"]
    described = {"key_id", "type", "template", "model", "prompt", "images", "duration", "resolution", "aspect_ratio"}
    assert entry.keys() >= described | {"id", "state", "err_code", "credits", "payload", "created_at", "creations"}
    assert (entry["type"], entry["template"], entry["prompt"]) == ("start-end2video", "", "fly")
    assert (entry["images"], entry["created_at"][-1]) == ([IMAGE], "Z")
    creation = entry["creations"][0]
    assert creation["video"] == {"duration": 5.0, "fps": 12, "resolution": {"width": 1280, "height": 720}}
    assert "any-key" not in str(entry)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/ent/v2/nothing", (404, "NotFound")),
        ("POST", "/ent/v2/text2music", (404, "NotFound")),
        ("GET", "/ent/v2/tasks/1/nothing", (404, "NotFound")),
        ("GET", "/ent/v2/text2video", (405, "MethodNotAllowed")),
        ("DELETE", "/ent/v2/tasks", (405, "MethodNotAllowed")),
    ],
)
async def test_unknown_routes_answer_in_vidus_shape(method: str, path: str, expected: tuple[int, str]) -> None:
    """Unknown paths and methods below Vidu's address have Vidu's error body."""
    async with bench() as at:
        assert reason(await at.client.request(method, path, headers=TOKEN)) == expected


async def test_unknown_routes_answer_in_the_shape_of_the_gateway() -> None:
    """Unknown paths below the gateway's addresses have its error object or its envelope; others a plain object."""
    async with bench() as at:
        paths = ("/model/v1/other", "/api/v1/skill/other", "/other")
        replies = [await at.client.get(path) for path in paths]
    assert [reply.status_code for reply in replies] == [404, 404, 404]
    error, envelope, plain = (reply.json() for reply in replies)
    assert set(error) == {"error", "request_id"}
    assert envelope["status"]["code"] == 404
    assert plain == {"error": "Not Found"}


async def test_credits_are_what_remains() -> None:
    """The balance decreases with each task and shows the running ones; it needs the key."""
    async with bench(run_time=10) as at:
        before = (await at.client.get("/ent/v2/credits", headers=TOKEN)).json()["remains"][0]
        spent = (await at.create_vidu()).json()["credits"]
        await asyncio.sleep(1)
        after = (await at.client.get("/ent/v2/credits?show_detail=false", headers=TOKEN)).json()["remains"][0]
        assert reason(await at.client.get("/ent/v2/credits")) == (401, "Unauthorized")
    assert before["credit_remain"] - after["credit_remain"] == spent
    assert (before["current_concurrency"], after["current_concurrency"]) == (0, 1)


async def test_cancel_needs_no_body() -> None:
    """A cancel without a body works, as several clients send it."""
    async with bench(queue_time=10) as at:
        task_id = (await at.create_vidu()).json()["task_id"]
        await asyncio.sleep(1)
        reply = await at.client.post(f"/ent/v2/tasks/{task_id}/cancel", headers=TOKEN)
        assert (reply.status_code, reply.json()) == (200, {})
