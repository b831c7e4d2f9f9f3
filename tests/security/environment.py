"""Where attacks happen: the whole service on loopback, in front of an upstream that does as it is told."""

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

HOST = "127.0.0.1"
KEY = "signing-key-of-the-service-under-attack-1234"
UPSTREAM_KEY = "upstream-key-that-nobody-may-see"
ALICE, BOB, ROOT = "alice-key-0123456789", "bob-key-0123456789", "root-key-0123456789"
API_KEYS = f"alice={ALICE},bob={BOB},root={ROOT}:admin"
MODEL = "viduq2_pro_reference"
IMAGE = "https://example.org/cat.png"
PATIENCE = 20.0

Json = dict[str, Any]


@dataclass(kw_only=True)
class Puppet:
    """A Vtrix-shaped upstream: `created` and `polled` make its answers, `asked` and `polls` are what it was sent."""

    url: str = ""
    asked: list[Json] = field(default_factory=list)
    polls: list[str] = field(default_factory=list)
    created: Callable[[int, Json], Response] | None = None
    polled: Callable[[str], Response] | None = None

    async def create(self, request: Request) -> Response:
        """Answer a submission: in progress, with ids up1, up2, ..."""
        body = await request.json()
        self.asked.append(body["input"][0]["params"])
        number = len(self.asked)
        if self.created:
            return self.created(number, self.asked[-1])
        return JSONResponse(in_progress(f"up{number}"))

    async def poll(self, request: Request) -> Response:
        """Answer a question: still in progress."""
        upstream_id = request.path_params["id"]
        self.polls.append(upstream_id)
        return self.polled(upstream_id) if self.polled else JSONResponse(in_progress(upstream_id))

    def app(self) -> Starlette:
        """Return it as an application."""
        return Starlette(
            routes=[
                Route("/model/v1/generation", self.create, methods=["POST"]),
                Route("/model/v1/generation/task/{id}", self.poll),
            ]
        )


def in_progress(upstream_id: str) -> Json:
    """Return the task body of one that runs."""
    return {"id": upstream_id, "created_at": 1, "status": "in_progress", "model": MODEL, "progress": 0.1}


def completed(upstream_id: str, url: str = "https://cdn.example.org/film.mp4") -> Json:
    """Return the task body of one that has ended well."""
    content = [{"type": "video", "url": url, "duration": "5", "jobId": "j1"}]
    usage = {"cost": "0.35", "discount": 1}
    return in_progress(upstream_id) | {"status": "completed", "output": [{"content": content}], "usage": usage}


def failed(upstream_id: str, message: str) -> Json:
    """Return the task body of one that has failed."""
    return in_progress(upstream_id) | {"status": "failed", "error": {"code": 2, "error_message": message}}


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The service, its upstream, a client of it and what it logged."""

    base: str
    upstream: Puppet
    http: httpx.AsyncClient = field(repr=False)
    logged: io.StringIO = field(repr=False)
    tokens: Tokens = field(repr=False)

    @property
    def port(self) -> int:
        """Return the service's port."""
        return httpx.URL(self.base).port or 80

    def asking(self, **params: object) -> Json:
        """Return the body of a good request."""
        return {"model": MODEL, "params": {"prompt": "a cat", "images": [IMAGE], **params}}

    async def submit(self, key: str | None = None, **more: Any) -> Json:
        """Submit a good task and return it once the upstream has answered; `more` are keys of the request."""
        found = await self.http.post("/v1/tasks", json=self.asking() | more, headers=bearer(key))
        hold_status(found, 202)
        task: Json = found.json()
        return await self.until(task["id"], lambda now: now["status"] not in {"queued", "submitting"})

    async def task(self, task_id: str) -> Json:
        """Return a task, as an admin sees it."""
        found: Json = (await self.http.get(f"/v1/tasks/{task_id}", headers=bearer(ROOT))).raise_for_status().json()
        return found

    async def until(self, task_id: str, fits: Callable[[Json], bool]) -> Json:
        """Return a task as soon as it is as wanted."""
        with anyio.fail_after(PATIENCE):
            while not fits(task := await self.task(task_id)):  # noqa: ASYNC110 - the service has no event to wait for
                await anyio.sleep(0.02)
        return task

    async def history(self, task_id: str) -> list[Json]:
        """Return a task's history."""
        found = await self.http.get(f"/v1/tasks/{task_id}/events", headers=bearer(ROOT))
        rows: list[Json] = found.raise_for_status().json()["data"]
        return rows

    def token(self, number: int = 1) -> str:
        """Return the callback token of the submission that the upstream got as number `number`."""
        return str(self.upstream.asked[number - 1]["callback_url"]).rpartition("/")[2]

    async def call_back(self, token: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Call back with a JSON body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(f"/callbacks/{token}", content=content, headers=dict(headers or {}))


def bearer(key: str | None) -> dict[str, str]:
    """Return the header that signs a client in; with None the default one of the client stays."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def hold_status(answer: httpx.Response, status: int) -> None:
    """Assert that a step which is no attack itself went well."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:300]}"


@asynccontextmanager
async def ground(home: Path, *, log_format: str = "json", **more: str) -> AsyncIterator[Ground]:
    """Run the service in `home` inside; `more` are settings without their prefix, an empty one is left out."""
    upstream = Puppet()
    with captured(log_format) as logged:
        async with serving(upstream.app(), listen(HOST, 0), grace=1) as upstream.url:
            settings = settings_of(home, upstream.url, **more)
            async with running(settings, host=HOST, port=0) as base, client(base, settings) as http:
                await ready(http)
                tokens = Tokens(settings.secret_keys or (KEY,))
                yield Ground(base=base, upstream=upstream, http=http, logged=logged, tokens=tokens)


async def ready(http: httpx.AsyncClient) -> None:
    """Wait until the service says that it is ready."""
    with anyio.fail_after(PATIENCE):
        while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - it tells in no other way
            await anyio.sleep(0.02)


@asynccontextmanager
async def client(base: str, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client, signed in as alice where keys are needed."""
    headers = bearer(ALICE) if settings.api_keys else {}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=PATIENCE, trust_env=False) as http:
        yield http


def settings_of(home: Path, upstream_url: str, **more: str) -> Settings:
    """Return settings that poll only on a hint, for a service in `home`."""
    given = {
        "UPSTREAM_URL": upstream_url,
        "UPSTREAM_KEY": UPSTREAM_KEY,
        "PUBLIC_URL": "https://boomerang.example.org",
        "DATABASE_URL": f"sqlite:///{home / 'boomerang.db'}",
        "SECRET_KEYS": KEY,
        "API_KEYS": API_KEYS,
        "UPSTREAM_RATE": "500/s",
        "POLL_FIRST": "1h",
        "POLL_MAX": "1h",
        "RETRY_SCHEDULE": "0s",
        **more,
    }
    return load_settings({f"BOOMERANG_{name}": value for name, value in given.items() if value})


@contextmanager
def captured(log_format: str) -> Any:
    """Catch everything that is logged, at every level that the service itself may log at."""
    logged = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure_logging("console" if log_format == "console" else "json", "debug")
    structlog.configure(cache_logger_on_first_use=False)  # the next ground may want another format
    handler = root.handlers[-1]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(logged)
    try:
        yield logged
    finally:
        root.handlers[:] = before
        root.setLevel(level)
