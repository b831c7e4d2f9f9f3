"""Authentication: API keys, callers, and the middleware that refuses unknown callers."""

import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Protocol
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.connections import MAX_CONNECTIONS
from service.api.endpoints import CALLBACK_PREFIX, HANDLER_PREFIX, LINK_PREFIX
from service.api.problem_shapes import problem_response
from service.api.problems import (
    ADMIN_ONLY,
    LOCAL_ONLY,
    METRICS_ONLY_ADMIN,
    READ_ONLY,
    TOO_MANY_OF_CLIENT,
    UNKNOWN_KEY,
    Problem,
    ProblemError,
    problem_of,
)
from service.domain.api_key import ApiKey
from service.domain.errors import BoomerangError
from service.domain.hosts import is_loopback
from service.domain.session_tokens import LOCAL_KEY, key_fingerprint

OPEN_PREFIXES = (CALLBACK_PREFIX, HANDLER_PREFIX)
OPEN_PATHS = frozenset({"/", "/healthz", "/healthz/", "/readyz", "/readyz/"})
FORWARDED = frozenset(
    {
        *("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cdn-loop"),
        *("cf-connecting-ip", "fly-client-ip", "fastly-client-ip", "x-appengine-user-ip", "x-azure-clientip"),
        *("x-amzn-trace-id", "x-envoy-external-address", "x-scheme", "x-proxyuser-ip", "ngrok-skip-browser-warning"),
        *("tailscale-user-login", "proxy-authorization", "x-request-start"),
    }
)
"""Headers that a proxy or tunnel adds, and no browser or command on this machine."""

FORWARDED_PREFIXES = ("x-forwarded", "x-original-")
LOGIN_PATH = "/v1/login-links"
MCP_PATH = "/mcp"
READABLE_BY_POST = frozenset({LOGIN_PATH, MCP_PATH, MCP_PATH + "/"})
"""Paths to which a read-only caller may POST: not each request changes something, and they refuse one that does."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SAME_SITE = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site for requests that no page of another site made."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The client that sent a request.

    A `read_only` caller sees what an admin sees and changes nothing. `key_id` is the fingerprint of its API key;
    `session` the id of the session of a browser, None for a request with a key. An `internal` caller is no client,
    though one may have the same name.
    """

    name: str
    admin: bool = False
    read_only: bool = False
    key_id: str = LOCAL_KEY
    session: str | None = None
    internal: bool = False

    @property
    def share_owner(self) -> str:
        """Return whose share of connections and memory its requests take; a client of the same name has another one."""
        return f"internal {self.name}" if self.internal else f"client {self.name}"

    @property
    def sees_all(self) -> bool:
        """Return whether the caller may read what belongs to any client."""
        return self.admin or self.read_only

    @property
    def role(self) -> str:
        """Return the role: admin, read-only or client."""
        return "admin" if self.admin else "read-only" if self.read_only else "client"

    @property
    def scope(self) -> str | None:
        """Return the client whose tasks the caller may see; None for all clients."""
        return None if self.sees_all else self.name

    def sees(self, client: str) -> bool:
        """Return whether the caller may read the tasks and deliveries of `client`."""
        return self.sees_all or client == self.name


class Pages(Protocol):
    """The pages of the dashboard, and the sessions of the browsers that are signed in to it."""

    def routes(self) -> Sequence[Route]:
        """Return the routes of the pages, which find out by themselves who may see them."""

    async def session(self, request: Request) -> tuple[str, str] | None:
        """Return the key id and the id of the session of a request, None without a valid one.

        Raises KeyMissing or StoreUnavailable.
        """

    def problem_page(self, problem: Problem, scope: Scope) -> Response:
        """Return a page of a problem that is not one of a page, such as of an unknown address."""


LOCAL = Caller(name="local", admin=True)
VISITOR = Caller(name="visitor", internal=True).share_owner
"""The share of connections of requests for pages before anybody signed in."""
METRICS_READER = Caller(name="metrics", internal=True)
LINK_READER = Caller(name="link", internal=True)
"""The callers of signed links, who share the requests of one client; their endpoint checks the token."""
METRICS_PATHS = frozenset({"/metrics", "/metrics/"})


class ApiKeyMiddleware:
    """Identifies the caller by its API key and refuses others, except on open paths and signed links.

    Where no address of `routes` exists there is nothing to protect: the router responds 404 to everybody. So it does
    with 204 to OPTIONS, which shows the methods of an address and nothing about tasks: browsers and balancers send it
    without a key.

    Without `api_keys` only callers on this machine are served, as the admin `local`; see `_is_local`. `/metrics` is for
    admins and for `metrics_key`, which opens nothing else.

    A browser that is signed in to `pages` may read the API with its session, and change nothing there: no page of
    another site can use it. Addresses of pages are served to everybody; without a caller in the request's state they
    ask to sign in. A read-only caller may only read, everywhere but on pages, which check it themselves.

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
        pages: Pages | None = None,
    ) -> None:
        self._app = app
        self._routes = routes
        self._pages = pages
        self._page_routes = list(pages.routes()) if pages else []
        self._free = max_requests
        self._running: Counter[str] = Counter()
        callers = [(each, _caller_with(each)) for each in api_keys]
        self._callers = [(sha256(each.key.encode()).digest(), caller) for each, caller in callers]
        self._by_key_id = {caller.key_id: caller for _, caller in callers}
        self._metrics_key = sha256(metrics_key.encode()).digest() if metrics_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or respond with 401, 403 or 503."""
        if scope["type"] != "http" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        page = any(route.path_regex.match(scope["path"]) for route in self._page_routes)
        caller = await self._identified(request, page=page)
        if isinstance(caller, Problem):
            if not page:
                app = problem_response(caller, scope) if self._is_protected(scope) else self._app
                await app(scope, receive, send)
                return
            request.state.refusal = caller
        else:
            request.state.caller = caller
        await self._serve(VISITOR if isinstance(caller, Problem) else caller.share_owner, scope, receive, send)

    async def _serve(self, owner: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that takes a connection of the share of `owner`."""
        if self._running[owner] >= self._free:
            await problem_response(TOO_MANY_OF_CLIENT, scope)(scope, receive, send)
            return
        self._free -= 1
        self._running[owner] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._free += 1
            self._running[owner] -= 1

    def _is_open(self, path: str) -> bool:
        if path == "/" and self._pages:
            return False
        return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)

    async def _identified(self, request: Request, *, page: bool) -> Caller | Problem:
        """Return the caller by its key, else by its session, or why the request is refused."""
        caller = self._caller(request)
        if isinstance(caller, Problem) and self._pages and "authorization" not in request.headers:
            try:
                caller = await self._by_session(self._pages, request) or caller
            except BoomerangError as error:
                return problem_of(error)
        changes = request.method not in SAFE_METHODS
        if page or isinstance(caller, Problem) or not changes:
            return caller
        if caller.session is not None:
            return UNKNOWN_KEY
        return READ_ONLY if caller.read_only and request.scope["path"] not in READABLE_BY_POST else caller

    async def _by_session(self, pages: Pages, request: Request) -> Caller | None:
        found = await pages.session(request)
        caller = self._by_key_id.get(found[0]) if found else None
        return replace(caller, session=found[1]) if found and caller else None

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
        if found and for_metrics and not found.sees_all:
            return METRICS_ONLY_ADMIN
        return found or UNKNOWN_KEY


def _caller_with(key: ApiKey) -> Caller:
    return Caller(name=key.name, admin=key.admin, read_only=key.read_only, key_id=key_fingerprint(key.key))


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
    """Raise a 403 problem unless the caller is an admin, or reads and may read everything."""
    caller = caller_of(request)
    if not (caller.admin or (caller.read_only and request.method in SAFE_METHODS)):
        raise ProblemError(ADMIN_ONLY)


def _is_local(request: Request) -> bool:
    """Return whether a program on this machine sent the request: no proxy, tunnel or page of another site.

    The peer's address says nothing, since a proxy may run here too. Host must be a loopback name or address, which a
    rebound name is not; Origin and Referer must be of that host. HTTP/1.0 is what nginx speaks without configuration,
    which then also replaces Host and adds no header.
    """
    headers = request.headers
    for name in headers:
        if name in FORWARDED or name.startswith(FORWARDED_PREFIXES):
            return False
    hosts = headers.getlist("host")
    if len(hosts) != 1 or request.scope["http_version"] == "1.0":
        return False
    if not SAME_SITE.issuperset(headers.getlist("sec-fetch-site")):
        return False
    try:
        pages = [urlsplit(text).netloc for name in ("origin", "referer") for text in headers.getlist(name)]
        return all(page == hosts[0] for page in pages) and is_loopback(urlsplit(f"//{hosts[0]}").hostname or "")
    except ValueError:
        return False
