"""The routes of handlers: without a key, within limits of size, time and number, and without details in errors."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from service.api import request_context
from service.api.handler_routes import MAX_REQUESTS, HandlerEndpoint
from service.api.request_work import BackgroundWork
from service.domain.errors import StoreUnavailable
from tests.unit.api.fakes import KEYS, FakeApplication, app_of, client_of

DETAIL = "a hidden detail"

Respond = Callable[[Request], Awaitable[Response]]


async def echo(request: Request) -> Response:
    """Answer with the body and the parameters of the path."""
    return PlainTextResponse(await request.body() + str(request.path_params).encode())


def endpoint(respond: Respond = echo, *, method: str = "POST", path: str = "/hook", **changes: Any) -> HandlerEndpoint:
    """Return a route of a handler."""
    fields = {"max_body": 100, "timeout": 5.0} | changes
    return HandlerEndpoint(handler="chat", method=method, path=f"/handlers/chat{path}", respond=respond, **fields)


def app(*endpoints: HandlerEndpoint, **more: Any) -> ASGIApp:
    """Return a web process whose clients need keys."""
    return app_of(FakeApplication(), api_keys=KEYS, handler_endpoints=endpoints, **more)


async def post(served: ASGIApp, path: str = "/handlers/chat/hook", **options: Any) -> httpx.Response:
    """Send a request without a key."""
    async with client_of(served) as client:
        client.headers.pop("authorization", None)
        return await client.post(path, **options)


async def test_route_needs_no_key_and_gets_the_body() -> None:
    """Other addresses of the API still need one."""
    served = app(endpoint(), endpoint(path="/user/{id}"))
    response = await post(served, content=b"hello")
    assert (response.status_code, response.text) == (200, "hello{}")
    response = await post(served, "/handlers/chat/user/7")
    assert response.text == "{'id': '7'}"
    assert (await post(served, "/v1/tasks")).status_code == 401
    assert (await post(served, "/handlers/chat/other")).status_code == 404
    assert (await post(served, "/handlers/other/hook")).status_code == 404


async def test_each_method_has_its_function_and_others_are_named() -> None:
    """OPTIONS and a wrong method name the allowed ones; HEAD is served like GET."""

    async def other(_: Request) -> Response:
        return PlainTextResponse("other")

    async with client_of(app(endpoint(), endpoint(other, method="GET"))) as client:
        assert (await client.get("/handlers/chat/hook")).text == "other"
        assert (await client.head("/handlers/chat/hook")).status_code == 200
        assert (await client.post("/handlers/chat/hook")).text == "{}"
        options = await client.options("/handlers/chat/hook")
        assert (options.status_code, options.headers["allow"]) == (204, "GET, OPTIONS, POST")
        assert (await client.delete("/handlers/chat/hook")).status_code == 405


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (HTTPException(401, DETAIL, headers={"www-authenticate": "Bearer"}), 401, "about:blank"),
        (RuntimeError(DETAIL), 500, "urn:boomerang:problem:internal-error"),
        (TimeoutError(DETAIL), 500, "urn:boomerang:problem:internal-error"),
        (StoreUnavailable(DETAIL), 503, "urn:boomerang:problem:store-unavailable"),
    ],
)
async def test_errors_are_answered_without_details(error: Exception, status: int, kind: str) -> None:
    """The log has the class and the place of an unexpected one, never its message."""

    async def fail(_: Request) -> Response:
        raise error

    with capture_logs() as lines:
        response = await post(app(endpoint(fail)))
    assert (response.status_code, response.json()["type"]) == (status, kind)
    assert response.headers["content-type"] == "application/problem+json"
    assert DETAIL not in response.text + str(lines)
    assert ("www-authenticate" in response.headers, "retry-after" in response.headers) == (status == 401, status == 503)


async def test_answer_that_is_none_is_an_error() -> None:
    """A function that returns no Response is a fault of its author."""

    async def nothing(_: Request) -> Any:
        return None

    assert (await post(app(endpoint(nothing)))).status_code == 500


async def test_function_that_takes_too_long_is_cancelled() -> None:
    """The platform repeats the request."""
    cancelled = []

    async def wait(_: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)
        return Response()

    response = await post(app(endpoint(wait, timeout=0.01)))
    assert (response.status_code, response.json()["type"]) == (504, "urn:boomerang:problem:handler-timeout")
    assert cancelled


async def test_body_beyond_the_limit_is_refused_unread() -> None:
    """With and without an announced length."""
    called = []

    async def note(request: Request) -> Response:
        called.append(await request.body())
        return Response()

    served = app(endpoint(note))

    async def parts() -> Any:
        yield b"x" * 60
        yield b"x" * 60

    assert (await post(served, content=b"x" * 101)).status_code == 413
    assert (await post(served, content=parts())).status_code == 413
    assert (await post(served, content=b"x" * 100)).status_code == 200
    assert called == [b"x" * 100]


async def test_handler_has_a_limited_number_of_requests_at_once() -> None:
    """The others are asked to come again; afterwards all are served."""
    release = asyncio.Event()

    async def wait(_: Request) -> Response:
        await release.wait()
        return Response()

    served = app(endpoint(wait))
    running = [asyncio.create_task(post(served)) for _ in range(MAX_REQUESTS + 3)]
    _, pending = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    while len(pending) > MAX_REQUESTS:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    release.set()
    found = [response.status_code for response in await asyncio.gather(*running)]
    assert sorted(found) == [200] * MAX_REQUESTS + [503] * 3
    assert (await post(served)).status_code == 200


async def test_log_has_the_path_as_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter of the path may be a secret."""
    with capture_logs() as lines:
        monkeypatch.setattr(request_context, "log", structlog.get_logger())
        await post(app(endpoint(path="/of/{token}")), "/handlers/chat/of/hidden-token")
    [line] = [line for line in lines if line["event"] == "request"]
    assert line["route"] == "/handlers/chat/of/{token}"
    assert "hidden-token" not in str(lines)


class Driven(BackgroundWork):
    """Counts how often everything due was asked for."""

    count = 0

    async def drive_all(self) -> None:
        """Count."""
        self.count += 1


@pytest.mark.parametrize(("answer_first", "status", "count"), [(False, 200, 1), (True, 200, 0), (False, 401, 0)])
async def test_answer_waits_for_due_work_where_requests_do_it(answer_first: bool, status: int, count: int) -> None:
    """Not for a refused request, and not where the platform wants the answer first."""

    async def respond(_: Request) -> Response:
        return Response(status_code=status)

    work = Driven()
    assert (await post(app(endpoint(respond, answer_first=answer_first), work=work))).status_code == status
    assert work.count == count
