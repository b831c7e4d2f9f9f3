"""The middleware that identifies callers, without a server: repeated headers, and the share of each client."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.api.authentication import ApiKeyMiddleware, Caller, require_admin
from service.api.problems import ProblemError
from service.domain.api_key import ApiKey
from tests.unit.api.fakes import KEYS

PATH = "/v1/tasks"


@dataclass(kw_only=True)
class HeldRequests:
    """Serves requests, each until `ended` is set."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.begun.append(scope["state"]["caller"].name)
        await self.ended.wait()
        await Response(status_code=204)(scope, receive, send)


def middleware(app: HeldRequests, *, max_requests: int = 100, api_keys: Sequence[ApiKey] = KEYS) -> ApiKeyMiddleware:
    """Return the middleware in front of `app`."""
    routes = [Route(PATH, lambda _: Response())]
    return ApiKeyMiddleware(app, routes=routes, api_keys=api_keys, max_requests=max_requests)


async def status_of(served: ApiKeyMiddleware, *headers: tuple[str, str], path: str = PATH) -> int:
    """Return the status of the response to one request with these headers, which may repeat."""
    found: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, object]) -> None:
        if message["type"] == "http.response.start":
            found.append(int(str(message["status"])))

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "http_version": "1.1",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "state": {},
    }
    await served(scope, receive, send)
    return found[0]


def key_of(name: str) -> tuple[str, str]:
    """Return the header with the key of a client."""
    return "authorization", f"Bearer key-of-{name}"


@pytest.mark.parametrize("order", [1, -1])
async def test_two_keys_in_one_request_are_refused(order: int) -> None:
    """A proxy may have checked the other one."""
    served = HeldRequests()
    both = [key_of("ann"), ("authorization", "Bearer wrong")][::order]
    assert await status_of(middleware(served), *both) == 401
    assert await status_of(middleware(served), key_of("ann"), key_of("root")) == 401
    assert served.begun == []


async def test_two_hosts_are_no_local_caller() -> None:
    """Without API keys a request is local by its Host: of two, a proxy may have used the other one."""
    served = HeldRequests()
    served.ended.set()
    alone = middleware(served, api_keys=[])
    assert await status_of(alone, ("host", "localhost"), ("host", "boomerang.example.org")) == 403
    assert await status_of(alone, ("host", "localhost"), ("host", "localhost")) == 403
    assert await status_of(alone, ("host", "localhost")) == 204


async def test_requests_of_one_client_leave_some_for_others() -> None:
    """One begins only while its client has fewer than are free; all are free again once they have ended."""
    served = HeldRequests()
    limited = middleware(served, max_requests=4)
    for _ in range(3):
        served.begun.clear()
        served.ended.clear()
        running = [asyncio.ensure_future(status_of(limited, key_of(name))) for name in ("ann", "ann", "ann", "bob")]
        await asyncio.sleep(0)
        assert served.begun == ["ann", "ann", "bob"]
        served.ended.set()
        assert await asyncio.gather(*running) == [204, 204, 503, 204]


async def test_client_named_like_an_internal_caller_has_its_own_share() -> None:
    """Whoever opens signed links takes no connections of the client `link`, though logs show the same name."""
    served = HeldRequests()
    limited = middleware(served, max_requests=4, api_keys=[ApiKey(name="link", key="key-of-link")])
    paths = ("/links/one", "/links/two", PATH)
    running = [asyncio.ensure_future(status_of(limited, key_of("link"), path=path)) for path in paths]
    await asyncio.sleep(0)
    assert served.begun == ["link", "link", "link"]
    served.ended.set()
    assert await asyncio.gather(*running) == [204, 204, 204]


@pytest.mark.parametrize(
    ("caller", "method", "allowed"),
    [
        (Caller(name="root", admin=True), "POST", True),
        (Caller(name="eve", read_only=True), "GET", True),
        (Caller(name="eve", read_only=True), "POST", False),
        (Caller(name="ann"), "GET", False),
    ],
)
def test_what_needs_an_admin(caller: Caller, method: str, allowed: bool) -> None:
    """Who may only read sees what an admin sees, and changes nothing, whatever has let the request through."""
    request = Request({"type": "http", "method": method, "headers": [], "state": {"caller": caller}})
    if allowed:
        require_admin(request)
        return
    with pytest.raises(ProblemError):
        require_admin(request)
