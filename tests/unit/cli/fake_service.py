"""A fake service for the client commands: real HTTP on loopback, scripted responses."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from click.testing import CliRunner, Result

from service.cli import boomerang

Json = dict[str, Any]
Response = tuple[int, object]

TASK: Json = {
    "id": "0198c2",
    "model": "viduq2_pro_reference",
    "status": "completed",
    "upstream_id": "d758",
    "params": {"prompt": "A walk"},
    "metadata": {},
    "progress": 1.0,
    "output": [{"type": "video", "url": "https://example.org/v.mp4", "archived_url": "file:///srv/v.mp4"}],
    "error": None,
    "warnings": ["bgm has no effect when duration is 9 or 10"],
    "usage": {"cost": "0.35", "discount": 0.9},
    "settled_by": "callback",
    "created_at": "2026-01-02T03:04:05Z",
}


def task(**changes: Any) -> Json:
    """Return a task in the form of the API, with `changes`."""
    return {**TASK, **changes}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that the fake service received."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None


@dataclass(kw_only=True)
class FakeService:
    """Responds to each call from its list and repeats the last response; records all requests."""

    url: str
    responses: dict[str, list[Response]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def respond_to(self, call: str, *responses: Response) -> None:
        """Set the responses to `METHOD /path`, in order."""
        self.responses[call] = list(responses)

    def next_response(self, request: Request) -> Response:
        """Record a request and return the next response to it."""
        self.requests.append(request)
        found = self.responses.get(
            f"{request.method} {request.path.partition('?')[0]}", [(404, problem("no such address"))]
        )
        return found.pop(0) if len(found) > 1 else found[0]


def problem(detail: str, **more: object) -> Json:
    """Return the body of a problem response."""
    return {"type": "about:blank", "title": "Problem", "detail": detail, **more}


@contextmanager
def fake_service() -> Iterator[FakeService]:
    """Run a fake service on a free loopback port inside the block."""
    fake = FakeService(url="")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake.next_response))
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


def _handler(respond: Callable[[Request], Response]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Log nothing."""

        def _serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(content) if content else None
            status, result = respond(Request(method=self.command, path=self.path, headers=headers, body=body))
            raw = result.encode() if isinstance(result, str) else json.dumps(result).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - names of the base class

    return Handler


def run(
    *arguments: str, url: str | None = None, env: Mapping[str, str | None] | None = None, typed: str | None = None
) -> Result:
    """Run a command as a shell does, without the BOOMERANG_* variables of the test process."""
    environment = {"BOOMERANG_URL": url, "BOOMERANG_API_KEY": None, "COLUMNS": "120", **(env or {})}
    return CliRunner().invoke(boomerang, list(arguments), env=environment, prog_name="boomerang", input=typed)
