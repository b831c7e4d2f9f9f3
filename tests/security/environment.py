"""The environment of attacks: the whole service on loopback, with a configurable provider."""

import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.tokens import Tokens
from service.runtime.config.settings import Settings, load_settings
from service.runtime.log_config import configure_logging
from service.runtime.process import running
from tests.support.database_copies import place_database
from tests.support.plain_http import NO_CERTIFICATES

HOST = "127.0.0.1"
KEY = "signing-key-of-the-service-under-attack-1234"
UPSTREAM_KEY = "upstream-key-that-nobody-may-see"
ALICE, BOB, ROOT = "alice-key-0123456789", "bob-key-0123456789", "root-key-0123456789"
API_KEYS = f"alice={ALICE},bob={BOB},root={ROOT}:admin"
MODEL = "viduq2_pro_reference"
IMAGE = "https://example.org/cat.png"
TIMEOUT = 20.0
DATABASE = "boomerang.db"

Json = dict[str, Any]


@dataclass(kw_only=True)
class FakeProvider:
    """A provider with the API of Vtrix.

    `create_reply` and `poll_reply` make its replies. `submissions` and `polls` are the received parameters and ids.
    """

    url: str = ""
    submissions: list[Json] = field(default_factory=list)
    polls: list[str] = field(default_factory=list)
    create_reply: Callable[[int, Json], Response] | None = None
    poll_reply: Callable[[str], Response] | None = None

    async def create(self, request: Request) -> Response:
        """Reply to a submission: in progress, with ids up1, up2, ..."""
        body = await request.json()
        self.submissions.append(body["input"][0]["params"])
        number = len(self.submissions)
        if self.create_reply:
            return self.create_reply(number, self.submissions[-1])
        return JSONResponse(in_progress(f"up{number}"))

    async def poll(self, request: Request) -> Response:
        """Reply to a poll: still in progress."""
        upstream_id = request.path_params["id"]
        self.polls.append(upstream_id)
        return self.poll_reply(upstream_id) if self.poll_reply else JSONResponse(in_progress(upstream_id))

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/model/v1/generation", self.create, methods=["POST"]),
                Route("/model/v1/generation/task/{id}", self.poll),
            ]
        )


def in_progress(upstream_id: str) -> Json:
    """Return the body of a running task."""
    return {"id": upstream_id, "created_at": 1, "status": "in_progress", "model": MODEL, "progress": 0.1}


def completed(upstream_id: str, url: str = "https://cdn.example.org/video.mp4") -> Json:
    """Return the body of a completed task."""
    content = [{"type": "video", "url": url, "duration": "5", "jobId": "j1"}]
    usage = {"cost": "0.35", "discount": 1}
    return in_progress(upstream_id) | {"status": "completed", "output": [{"content": content}], "usage": usage}


def failed(upstream_id: str, message: str) -> Json:
    """Return the body of a failed task."""
    return in_progress(upstream_id) | {"status": "failed", "error": {"code": 2, "error_message": message}}


@dataclass(frozen=True, kw_only=True)
class ServiceUnderTest:
    """The service with its provider, an HTTP client and the log."""

    base: str
    upstream: FakeProvider
    http: httpx.AsyncClient = field(repr=False)
    logged: io.StringIO = field(repr=False)
    tokens: Tokens = field(repr=False)

    @property
    def port(self) -> int:
        """Return the port of the service."""
        return httpx.URL(self.base).port or 80

    def task_body(self, **params: object) -> Json:
        """Return the body of a valid request."""
        return {"model": MODEL, "params": {"prompt": "a cat", "images": [IMAGE], **params}}

    async def submit(self, key: str | None = None, **more: Any) -> Json:
        """Submit a valid task and return it after the reply of the provider; `more` are keys of the request."""
        found = await self.http.post("/v1/tasks", json=self.task_body() | more, headers=bearer(key))
        require_status(found, 202)
        task: Json = found.json()
        return await self.wait_until(task["id"], lambda now: now["status"] not in {"queued", "submitting"})

    async def task(self, task_id: str) -> Json:
        """Return a task, read as an admin."""
        found: Json = (await self.http.get(f"/v1/tasks/{task_id}", headers=bearer(ROOT))).raise_for_status().json()
        return found

    async def wait_until(self, task_id: str, fits: Callable[[Json], bool]) -> Json:
        """Return a task as soon as `fits` is true for it."""
        with anyio.fail_after(TIMEOUT):
            while not fits(task := await self.task(task_id)):  # noqa: ASYNC110 - the service has no event to wait for
                await anyio.sleep(0.02)
        return task

    async def history(self, task_id: str) -> list[Json]:
        """Return the history of a task."""
        found = await self.http.get(f"/v1/tasks/{task_id}/events", headers=bearer(ROOT))
        rows: list[Json] = found.raise_for_status().json()["data"]
        return rows

    def token(self, number: int = 1) -> str:
        """Return the callback token of the submission with this number, from 1."""
        return str(self.upstream.submissions[number - 1]["callback_url"]).rpartition("/")[2]

    async def call_back(self, token: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Send a callback with a JSON body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(f"/callbacks/{token}", content=content, headers=dict(headers or {}))


def bearer(key: str | None) -> dict[str, str]:
    """Return the header with an API key; None keeps the default of the client."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def require_status(response: httpx.Response, status: int) -> None:
    """Assert the status of a step that is not part of the attack."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:300]}"


@asynccontextmanager
async def service_under_test(home: Path, *, log_format: str = "json", **more: str) -> AsyncIterator[ServiceUnderTest]:
    """Run the service in `home` inside the block; `more` are settings without prefix, and an empty one is omitted."""
    upstream = FakeProvider()
    with captured(log_format) as logged:
        async with serving(upstream.app(), listen(HOST, 0), grace=1) as upstream.url:
            settings = settings_of(home, upstream.url, **more)
            if not await anyio.Path(home / DATABASE).exists():
                await place_database(home / DATABASE)
            async with running(settings, host=HOST, port=0) as base, client(base, settings) as http:
                await ready(http)
                tokens = Tokens(settings.secret_keys or (KEY,))
                yield ServiceUnderTest(base=base, upstream=upstream, http=http, logged=logged, tokens=tokens)


async def ready(http: httpx.AsyncClient) -> None:
    """Wait until the service is ready."""
    with anyio.fail_after(TIMEOUT):
        while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.02)


@asynccontextmanager
async def client(base: str, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client, with the key of alice when keys are configured."""
    headers = bearer(ALICE) if settings.api_keys else {}
    async with httpx.AsyncClient(
        base_url=base, headers=headers, timeout=TIMEOUT, trust_env=False, verify=NO_CERTIFICATES
    ) as http:
        yield http


def settings_of(home: Path, upstream_url: str, **more: str) -> Settings:
    """Return settings for a service in `home` that polls after callbacks only."""
    values = {
        "UPSTREAM_URL": upstream_url,
        "UPSTREAM_KEY": UPSTREAM_KEY,
        "PUBLIC_URL": "https://boomerang.example.org",
        "DATABASE_URL": f"sqlite:///{home / DATABASE}",
        "SECRET_KEYS": KEY,
        "API_KEYS": API_KEYS,
        "UPSTREAM_RATE": "500/s",
        "POLL_FIRST": "1h",
        "POLL_MAX": "1h",
        "RETRY_SCHEDULE": "0s",
        **more,
    }
    return load_settings({f"BOOMERANG_{name}": value for name, value in values.items() if value})


@contextmanager
def captured(log_format: str) -> Any:
    """Capture all log lines of every level."""
    logged = io.StringIO()
    root = logging.getLogger()
    handlers_before, level = root.handlers[:], root.level
    configure_logging("console" if log_format == "console" else "json", "debug")
    structlog.configure(cache_logger_on_first_use=False)  # the next service may use another format
    handler = root.handlers[-1]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(logged)
    try:
        yield logged
    finally:
        root.handlers[:] = handlers_before
        root.setLevel(level)
