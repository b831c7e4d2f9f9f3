"""Models that the provider has not are neither offered nor accepted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.models.catalog import known_models
from service.providers import served_models
from service.runtime.config.settings import load_settings
from service.runtime.process import running
from tests.support.ports import free_port

KEY = "anna-key-0123456789"
ONLY, OTHER = "viduq2_pro_reference", "viduq2_reference2image"
IMAGES = ["https://example.org/cat.png"]


@asynccontextmanager
async def _service(home: Path, provider: str, **more: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run the service; its provider never answers."""
    port = free_port()
    values = {
        "PROVIDER": provider,
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "UPSTREAM_URL": f"http://127.0.0.1:{free_port()}",
        "UPSTREAM_KEY": "any",
        "DATABASE_URL": f"sqlite:///{home / 'boomerang.db'}",
        "API_KEYS": f"anna={KEY}",
        **more,
    }
    settings = load_settings({f"BOOMERANG_{name}": value for name, value in values.items()})
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        running(settings, host="127.0.0.1", port=port) as base,
        httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=60) as client,
    ):
        yield client


async def _offered(client: httpx.AsyncClient) -> list[list[str]]:
    listed = (await client.get("/v1/models")).json()["data"]
    skills = (await client.get("/api/v1/skill/models", params={"page_size": 100})).json()["data"]["models"]
    form = (await client.get("/new", params={"format": "json"})).json()["models"]
    return [[each["id"] for each in listed], [each["id"] for each in skills], form]


def _requests(model: str) -> dict[str, dict[str, Any]]:
    params = {"prompt": "a cat", "images": IMAGES}
    return {
        "/v1/tasks": {"model": model, "params": params},
        "/v1/videos": {"model": model, **params},
        "/model/v1/generation": {"model": model, "input": [{"params": params}]},
    }


@pytest.mark.parametrize("unchecked", ["false", "true"])
async def test_vidu_gets_only_its_own_models(tmp_path: Path, unchecked: str) -> None:
    """Others are refused at submission by every API, with the models that can be used, and are offered nowhere."""
    async with _service(tmp_path, "vidu", ALLOW_UNCHECKED_MODELS=unchecked) as client:
        assert await _offered(client) == [[ONLY]] * 3
        assert (await client.get(f"/v1/models/{OTHER}")).status_code == 404
        for path, body in _requests(OTHER).items():
            refused = await client.post(path, json=body)
            assert refused.status_code == (422 if path == "/v1/tasks" else 400), (
                path,
                refused.text,
            )  # as those APIs do
            assert f"use {ONLY}" in refused.text, path
        for path, body in _requests(ONLY).items():
            assert (await client.post(path, json=body)).is_success, path


async def test_vtrix_gets_every_model(tmp_path: Path) -> None:
    """All models are offered, and one that only Vtrix has is accepted."""
    async with _service(tmp_path, "vtrix") as client:
        assert await _offered(client) == [list(known_models())] * 3
        assert (await client.post("/v1/tasks", json=_requests(OTHER)["/v1/tasks"])).status_code == 202
    assert served_models("vidu") == (ONLY,)
