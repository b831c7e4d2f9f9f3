"""The command line with a hostile server."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
from anyio.to_thread import run_sync
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from service.api.server import listen, serving
from service.cli import boomerang
from tests.security.catalogue import add, peak, require
from tests.support.bombs import gzip_bomb

HOST = "127.0.0.1"
MB = 1024 * 1024
ESC = "\x1b[2J\x1b]0;pwned\x07\u009b31m\r\n[bold red]x[/] [link=http://evil.example.org]y[/link]\u202e"
TASK = {
    "id": "t1", "status": "completed", "model": ESC, "params": {"prompt": ESC}, "upstream_id": ESC, "progress": 1.0,
    "settled_by": ESC, "error": {"code": ESC, "message": ESC}, "note": ESC, "usage": {"cost": ESC}, "created_at": ESC,
    "settled_at": ESC, "output": [{"url": ESC}], "warnings": [ESC],
}  # fmt: skip
DEAD = {"id": ESC, "handler": ESC, "event_type": ESC, "attempts": 1, "fault": ESC, "last_error": ESC}
STATUS, TASKS, DEADS = ("status", "t1"), ("tasks",), ("dead",)
Reply = Callable[[Request], Response]


def _json(body: object, status: int = 200) -> Reply:
    return lambda _: Response(json.dumps(body), status, media_type="application/json")


def _raw(body: bytes, status: int = 200, **headers: str) -> Reply:
    return lambda _: Response(body, status, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b'{"a": "' + b"a" * 65536
        await anyio.lowlevel.checkpoint()  # lets other tasks run after the client has disconnected


BOMB = gzip_bomb(b" ", 100) * 5

HOSTILE: dict[str, tuple[tuple[str, ...], Reply]] = {
    "escapes in a task": (STATUS, _json(TASK)),
    "escapes in a task, as JSON": ((*STATUS, "--json"), _json(TASK)),
    "escapes in a list": (TASKS, _json({"data": [TASK], "next_cursor": ESC})),
    "escapes in dead letters": (DEADS, _json({"data": [DEAD], "next_cursor": ESC})),
    "escapes in a status": (STATUS, _json(TASK | {"status": ESC})),
    "escapes in a status that is watched": (("watch", "t1"), lambda request: _watched_task(request)),  # noqa: PLW0108 - defined below
    "escapes in an error": (STATUS, _json({"title": ESC, "detail": ESC, "errors": [{"loc": [ESC], "msg": ESC}]}, 422)),
    "escapes in an id": (("submit", "--prompt", "a"), _json(TASK | {"id": ESC}, 202)),
    "no task at all": (STATUS, _json({})),
    "a task without an id": (("submit", "--prompt", "a"), _json({"status": "queued"}, 202)),
    "swapped types": (STATUS, _json({"id": [], "status": {}, "error": "x", "output": 5, "params": []})),
    "progress is a word": (STATUS, _json(TASK | {"progress": "half"})),
    "outputs that are no objects": (STATUS, _json(TASK | {"output": ["x", 1, None]})),
    "a list that is none": (TASKS, _json({"data": 5})),
    "a list of nulls": (TASKS, _json({"data": [None]})),
    "errors that are no list": (STATUS, _json({"detail": "x", "errors": 5}, 422)),
    "a fault whose place is a number": (STATUS, _json({"detail": "x", "errors": [{"loc": 5}]}, 422)),
    "lone surrogates, as JSON": ((*STATUS, "--json"), _raw(json.dumps(TASK | {"id": "\ud800"}).encode())),
    "HTML": (STATUS, _raw(b"<html><script>alert(1)</script>")),
    "nothing": (STATUS, _raw(b"")),
    "deep JSON": (STATUS, _raw(b"[" * 100_000)),
    "a huge integer": (STATUS, _raw(b'{"id": ' + b"9" * 10_000 + b"}")),
    "a response without end": (STATUS, lambda _: StreamingResponse(_endless())),
    "a gzip bomb": (STATUS, _raw(BOMB, content_encoding="gzip")),
    "a redirect that would take the key along": (STATUS, lambda _: RedirectResponse("http://127.0.0.2:1/v1/tasks/t1")),
}


def _watched_task(request: Request) -> Response:
    return _json(TASK | ({"status": ESC, "progress": 0.5} if _first(request) else {}))(request)


def _first(request: Request) -> bool:
    request.app.state.requests = getattr(request.app.state, "requests", 0) + 1
    return bool(request.app.state.requests < 3)


async def _run_against(_: Path, arguments: tuple[str, ...], reply: Reply) -> str:
    """Run a command against a hostile server: a plain message, no traceback, no control characters."""

    async def respond(request: Request) -> Response:
        return reply(request)

    app = Starlette(routes=[Route("/{path:path}", respond, methods=["GET", "POST"])])
    async with serving(app, listen(HOST, 0), grace=0) as url:
        with peak() as memory:
            with anyio.fail_after(20):
                found = await run_sync(_run, [*arguments, "--url", url], abandon_on_cancel=True)
    return _check_result(found, memory[0])


def _run(arguments: list[str]) -> Result:
    return CliRunner().invoke(boomerang, arguments, env={"FORCE_COLOR": "1", "COLUMNS": "200"})


def _check_result(found: Result, growth: int) -> str:
    require(found.exception is None or isinstance(found.exception, SystemExit), f"a traceback: {found.exception!r}")
    require(found.exit_code in {0, 1, 2}, f"exit code {found.exit_code}")
    output = found.output
    invalid = [each for each in ("\x1b[2J", "\x1b]", "\x07", "\u009b", "\u202e", "\x1b[1;31mx") if each in output]
    require(not invalid, f"the terminal receives {invalid}")
    require(growth < 100 * MB, f"{growth // MB} MB were taken")
    return f"exit {found.exit_code}: {' '.join(output.split())[:70]!r}"


def _hostile(name: str, arguments: tuple[str, ...], reply: Reply) -> None:
    async def run(home: Path) -> str:
        return await _run_against(home, arguments, reply)

    add("terminal", name, run)


for _name, (_arguments, _reply) in HOSTILE.items():
    _hostile(_name, _arguments, _reply)
