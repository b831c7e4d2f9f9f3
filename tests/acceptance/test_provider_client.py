"""A client written for the provider's API runs unchanged against this service and against the sandbox."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import httpx
import pytest
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.webhook_secrets import derive_client_secret
from tests.acceptance.environment import IMAGE, MODEL, SECRET, serve, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Json, Workspace, until
from tests.support.ports import free_port
from tests.support.provider_client import GatewayError, ProviderClient, provider_client

KEY = "key-of-an-existing-client"
PARAMS = {"prompt": "a cat", "images": [IMAGE], "duration": 4, "payload": "order 17", "meta_data": '{"order": 17}'}


@dataclass(kw_only=True)
class CallbackServer:
    """Takes callbacks as a customer's server does; `url` is its address."""

    url: str = ""
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        """Take one callback."""
        self.taken.append((dict(request.headers), await request.body()))
        return Response(status_code=200)

    def last_of(self, task_id: str) -> Json | None:
        """Return the callback that reports the end of a task, None before it came."""
        bodies = [json.loads(body) for _, body in self.taken]
        ended = [each for each in bodies if each["id"] == task_id and each["status"] in {"completed", "failed"}]
        return ended[-1] if ended else None


@asynccontextmanager
async def callback_server() -> AsyncIterator[CallbackServer]:
    """Run a server for callbacks inside the block."""
    server = CallbackServer()
    app = Starlette(routes=[Route("/callback", server.take, methods=["POST"])])
    async with serving(app, listen(HOST, 0), grace=1) as base:
        server.url = f"{base}/callback"
        yield server


@asynccontextmanager
async def gateway(kind: str, workspace: Workspace) -> AsyncIterator[str]:
    """Run the sandbox, or the service before another sandbox, and yield its address."""
    own_key = () if kind == "service" else ("--key", KEY)
    async with upstream(workspace, "--run-time", "300ms", "--tiny-videos", *own_key) as sandbox:
        if kind == "sandbox":
            yield sandbox.url
            return
        public_url = f"http://{HOST}:{free_port()}"
        env = settings(sandbox.url, public_url, sqlite(workspace), API_KEYS=f"shop={KEY},other=another-key-of-16")
        yield (await serve(workspace, env)).url


@pytest.mark.parametrize("kind", ["sandbox", "service"])
async def test_client_of_the_provider_runs_unchanged(kind: str, workspace: Workspace) -> None:
    """It finds the model, submits, polls, downloads, gets its callback, and understands every refusal."""
    async with gateway(kind, workspace) as base, callback_server() as server, provider_client(base, KEY) as client:
        assert MODEL in [each["id"] for each in await client.models(type="video", keywords="pro reference")]
        task = await client.create(MODEL, PARAMS | {"callback_url": server.url})
        with anyio.fail_after(60):
            ended = await client.finish(task)
            await until(lambda: server.last_of(task["id"]) is not None, what="the callback")
        _check_completed(ended, task)
        async with httpx.AsyncClient(trust_env=False) as http:
            video = await http.get(ended["output"][0]["content"][0]["url"])
        assert video.content[4:8] == b"ftyp"
        callback = server.last_of(task["id"])
        assert callback is not None
        _check_completed(callback, task)
        assert (callback["payload"], callback["meta_data"]) == (PARAMS["payload"], PARAMS["meta_data"])
        await _check_refusals(client)
        async with provider_client(base, "a-wrong-key") as unknown_caller:
            await _refused(unknown_caller, 401, "Unauthorized", model=MODEL, params=PARAMS)
    if kind == "service":
        _check_signed(server)


def _check_completed(body: Json, task: Json) -> None:
    assert (body["id"], body["status"], body["model"]) == (task["id"], "completed", MODEL)
    assert body["created_at"] == task["created_at"]
    [content] = body["output"][0]["content"]
    assert (content["type"], int(content["duration"])) == ("video", 4)
    assert content["jobId"]
    assert float(body["usage"]["cost"]) > 0
    assert body["metadata"]["completed_at"] >= body["metadata"]["in_queue_at"]


async def _check_refusals(client: ProviderClient) -> None:
    await _refused(client, 400, "FieldInvalid", model=MODEL, params=PARAMS | {"duration": 99})
    await _refused(client, 400, "FieldLacking", model=MODEL, params={"images": [IMAGE]})
    await _refused(client, 400, "ModelUnavailable", model="none", params=PARAMS)
    with pytest.raises(GatewayError) as unknown:
        await client.poll("d758n65e878c73cmdg20")
    assert (unknown.value.status, unknown.value.code) == (404, "TaskNotFound")
    with pytest.raises(GatewayError) as no_model:
        await client.spec("none")
    assert no_model.value.status == 404


async def _refused(client: ProviderClient, status: int, code: str, *, model: str, params: Json) -> None:
    body = {"model": model, "input": [{"params": params}]}
    answer = await client.http.post("/model/v1/generation", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["message"]


def _check_signed(server: CallbackServer) -> None:
    """Check each callback with the reference library and the secret of the client; there is one for each task."""
    for headers, body in server.taken:
        Webhook(derive_client_secret(SECRET, "shop")).verify(body, headers)
    assert len(server.taken) == 1
