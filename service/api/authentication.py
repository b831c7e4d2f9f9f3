"""Authentication: API keys, callers, and the middleware that refuses unknown callers."""

import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.connections import MAX_CONNECTIONS
from service.api.endpoints import CALLBACK_PREFIX, HANDLER_PREFIX, LINK_PREFIX
from service.api.problem_shapes import problem_response
from service.api.problems import (
    ADMIN_ONLY,
    LOCAL_ONLY,
    METRICS_ONLY_ADMIN,
    TOO_MANY_OF_CLIENT,
    UNKNOWN_KEY,
    Problem,
    ProblemError,
)
from service.domain.api_key import ApiKey
from service.domain.hosts import is_loopback

OPEN_PREFIXES = (CALLBACK_PREFIX, HANDLER_PREFIX)
OPEN_PATHS = frozenset({"/", "/healthz", "/healthz/", "/readyz", "/readyz/"})
FORWARDED = frozenset({"forwarded", "via", "x-real-ip", "true-client-ip", "cf-connecting-ip", "fly-client-ip"})
FORWARDED_PREFIX = "x-forwarded"
SAME_SITE = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site for requests that no page of another site made."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The client that sent a request."""

    name: str
    admin: bool = False

    @property
    def scope(self) -> str | None:
        """Return the client whose tasks the caller may see; None for all clients."""
        return None if self.admin else self.name

    def sees(self, client: str) -> bool:
        """Return whether the caller may read the tasks and deliveries of `client`."""
        return self.admin or client == self.name


LOCAL = Caller(name="local", admin=True)
METRICS_READER = Caller(name="metrics")
LINK_READER = Caller(name="link")
"""The callers of signed links, who share the requests of one client; their endpoint checks the token."""
METRICS_PATHS = frozenset({"/metrics", "/metrics/"})


class ApiKeyMiddleware:
    """Identifies the caller by its API key and refuses others, except on open paths and signed links.

    Where no address of `routes` exists there is nothing to protect: the router responds 404 to everybody. So it does
    with 204 to OPTIONS, which shows the methods of an address and nothing about tasks: browsers and balancers send it
    without a key.

    Without `api_keys` only callers on this machine are served, as the admin `local`. `/metrics` is for admins and for
    `metrics_key`, which opens nothing else.

    There are at most `max_requests` at once, and one of a client begins only while it has fewer than are free (as in
    `domain/fair_share.py`): slow bodies and waits of one client leave connections for others and for callbacks.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[Route],
        api_keys: Sequence[ApiKey],
        metrics_key: str | None = None,
        max_requests: int = MAX_CONNECTIONS,
    ) -> None:
        self._app = app
        self._routes = routes
        self._free = max_requests
        self._running: Counter[str] = Counter()
        self._callers = [
            (sha256(each.key.encode()).digest(), Caller(name=each.name, admin=each.admin)) for each in api_keys
        ]
        self._metrics_key = sha256(metrics_key.encode()).digest() if metrics_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or respond with 401, 403 or 503."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_PREFIXES):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        caller = self._caller(request)
        if isinstance(caller, Problem):
            app = problem_response(caller, scope) if self._is_protected(scope) else self._app
            await app(scope, receive, send)
            return
        request.state.caller = caller
        if self._running[caller.name] >= self._free:
            await problem_response(TOO_MANY_OF_CLIENT, scope)(scope, receive, send)
            return
        self._free -= 1
        self._running[caller.name] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._free += 1
            self._running[caller.name] -= 1

    def _is_protected(self, scope: Scope) -> bool:
        exists = any(route.path_regex.match(scope["path"]) for route in self._routes)
        return exists and scope["method"] != "OPTIONS"

    def _caller(self, request: Request) -> Caller | Problem:
        if request.scope["path"].startswith(LINK_PREFIX):
            return LINK_READER
        digest = _key_digest(request)
        for_metrics = request.scope["path"] in METRICS_PATHS
        if for_metrics and self._metrics_key and hmac.compare_digest(self._metrics_key, digest):
            return METRICS_READER
        if not self._callers:
            return LOCAL if _is_local(request) else LOCAL_ONLY
        found: Caller | None = None
        for known, caller in self._callers:  # all of them, so that the time does not depend on the match
            if hmac.compare_digest(known, digest):
                found = caller
        if found and for_metrics and not found.admin:
            return METRICS_ONLY_ADMIN
        return found or UNKNOWN_KEY


def _key_digest(request: Request) -> bytes:
    """Return the digest of the key of the request, that of an empty key without one."""
    values = request.headers.getlist("authorization")
    # of two headers, a proxy may have checked the other one
    scheme, _, key = (values[0] if len(values) == 1 else "").partition(" ")
    return sha256(key.strip().encode("latin-1") if scheme.lower() == "bearer" else b"").digest()


def caller_of(request: Request) -> Caller:
    """Return the caller that the middleware identified; raises TypeError when it did not run."""
    caller = request.state.caller
    if not isinstance(caller, Caller):
        raise TypeError("ApiKeyMiddleware did not run")
    return caller


def require_admin(request: Request) -> None:
    """Raise a 403 problem unless the caller is an admin."""
    if not caller_of(request).admin:
        raise ProblemError(ADMIN_ONLY)


def _is_local(request: Request) -> bool:
    """Return whether a program on this machine sent the request: no proxy, tunnel or page of another site."""
    headers = request.headers
    for name in headers:
        if name in FORWARDED or name.startswith(FORWARDED_PREFIX):
            return False
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not SAME_SITE.issuperset(headers.getlist("sec-fetch-site")):
        return False
    for origin in headers.getlist("origin"):
        if origin.partition("://")[2] != hosts[0]:
            return False
    try:
        return is_loopback(urlsplit(f"//{hosts[0]}").hostname or "")
    except ValueError:
        return False
