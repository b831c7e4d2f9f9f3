"""A client of the provider's API as its customers write one; it knows nothing of this service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx

Json = dict[str, Any]
POLL_PAUSE = 0.1


class GatewayError(Exception):
    """An error that the gateway answered: its HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, kw_only=True)
class ProviderClient:
    """Reads the specification of a model, submits a task to the endpoint in it, polls, and downloads the result."""

    http: httpx.AsyncClient = field(repr=False)

    async def models(self, **query: str) -> list[Json]:
        """Return the models of one page."""
        found: list[Json] = _data(await self.http.get("/api/v1/skill/models", params=query))["models"]
        return found

    async def spec(self, model: str) -> Json:
        """Return the specification of a model."""
        return _data(await self.http.get(f"/api/v1/skill/models/{model}/spec"))

    async def create(self, model: str, params: Json) -> Json:
        """Submit a task to the endpoint that the specification names; return the task."""
        spec = await self.spec(model)
        known = {each["name"] for each in spec["parameters"]}
        required = {each["name"] for each in spec["parameters"] if each["required"]}
        assert required <= params.keys() <= known
        body = {"model": model, "input": [{"params": params}]}
        task = _checked(await self.http.request(spec["api"]["method"], spec["api"]["endpoint"], json=body))
        if not task.get("id"):
            raise GatewayError(200, str(task["error"]["code"]), task["error"]["error_message"])
        return task

    async def poll(self, task_id: str) -> Json:
        """Return a task."""
        return _checked(await self.http.get(f"/model/v1/generation/task/{task_id}"))

    async def finish(self, task: Json) -> Json:
        """Poll a task until it ends; return it."""
        while task["status"] not in {"completed", "failed"}:
            await anyio.sleep(POLL_PAUSE)
            task = await self.poll(task["id"])
        return task


def _checked(answer: httpx.Response) -> Json:
    body: Json = answer.json()
    if answer.status_code != httpx.codes.OK:
        assert body["request_id"]
        raise GatewayError(answer.status_code, body["error"]["code"], body["error"]["message"])
    return body


def _data(answer: httpx.Response) -> Json:
    body: Json = answer.json()
    if body["status"]["code"] != httpx.codes.OK:
        raise GatewayError(answer.status_code, "", body["status"]["message"])
    data: Json = body["data"]
    return data


@asynccontextmanager
async def provider_client(base_url: str, key: str) -> AsyncIterator[ProviderClient]:
    """Yield a client for the API at `base_url`."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30, trust_env=False) as http:
        yield ProviderClient(http=http)
