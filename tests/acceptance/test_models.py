"""Tasks of every model in real processes: subjects, text alone, pictures as results, and a model of unknown name."""

from typing import Any

import pytest

from service.domain.models.catalog import MODELS
from tests.acceptance.environment import IMAGE, serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Workspace
from tests.support.ports import free_port
from tests.support.sample_media import image, uri

PICTURE = uri("image/png", image("PNG"))
SUBJECTS = [{"id": "cat", "images": [PICTURE, IMAGE]}, {"id": "sea", "images": [PICTURE]}]
UNKNOWN = "viduq9_of_tomorrow"
PARAMS: dict[str, dict[str, Any]] = {
    "viduq2_pro_reference": {"prompt": "a cat", "images": [PICTURE]},
    "viduq2_reference2video": {"prompt": "@cat at the @sea", "subjects": SUBJECTS, "audio": True},
    "viduq2_pro_fast_reference2video": {"prompt": "@cat at the @sea", "subjects": SUBJECTS},
    "viduq2_pro_fast_text2video": {"prompt": "a cat"},
    "viduq2_reference2image": {"prompt": "a cat", "images": [PICTURE], "aspect_ratio": "auto", "resolution": "2K"},
    UNKNOWN: {"any": {"thing": [PICTURE]}, "payload": "mine"},
}


async def test_every_model_gets_its_result(workspace: Workspace) -> None:
    """Media reach the provider whole, results are stored with their own type, and pictures have thumbnails."""
    assert {*MODELS, UNKNOWN} == set(PARAMS)
    switches = ("--run-time", "200ms", "--tiny-videos", "--any-model")
    async with upstream(workspace, *switches) as sandbox:
        public_url = f"http://{HOST}:{free_port()}"
        more = {"ARCHIVE_URL": (workspace.home / "videos").as_uri(), "ALLOW_UNCHECKED_MODELS": "true"}
        child = await serve(workspace, settings(sandbox.url, public_url, sqlite(workspace), **more))
        async with service(child) as at:
            tasks = {model: await at.submit(model=model, params=params) for model, params in PARAMS.items()}
            await at.wait_until_idle()
            for model, submitted in tasks.items():
                task = await at.task(submitted["id"])
                assert task["status"] == "completed", task
                [output] = task["output"]
                kind, start = ("image", b"\xff\xd8") if model.endswith("2image") else ("video", b"\x00\x00")
                assert (output["type"], output["media_type"].partition("/")[0]) == (kind, kind)
                content = await at.http.get(f"/v1/tasks/{task['id']}/content")
                assert content.headers["content-type"] == output["media_type"]
                assert content.content.startswith(start)
                thumbnail = await at.http.get(f"/v1/tasks/{task['id']}/content?variant=thumbnail")
                assert thumbnail.content.startswith(b"\xff\xd8\xff")
                assert any("not checked" in each for each in task["warnings"]) == (model == UNKNOWN)
            shown = await at.task(tasks["viduq2_reference2video"]["id"])
            assert shown["params"]["subjects"][0]["images"][0].keys() == {"media_type", "bytes", "sha256"}
            unknown = await at.task(tasks[UNKNOWN]["id"])
            assert (unknown["payload"], unknown["params"]["any"]["thing"][0]["media_type"]) == ("mine", "image/png")


@pytest.mark.parametrize("model", [UNKNOWN])
async def test_unknown_model_is_refused_by_default(workspace: Workspace, model: str) -> None:
    """The error names the known ones."""
    child = await serve(workspace, settings("http://127.0.0.1:9", f"http://{HOST}:{free_port()}", sqlite(workspace)))
    async with service(child) as at:
        answer = await at.http.post("/v1/tasks", json={"model": model, "params": PARAMS[model]})
    assert answer.status_code == 422
    assert "is unknown" in answer.json()["errors"][0]["msg"]
