"""Who calls: API keys, clients, and the guard in front of everything that is not open."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import Problem, ProblemError
from service.domain.api_key import ApiKey
from service.domain.hosts import is_loopback

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
OPEN_PREFIX = "/callbacks/"
FORWARDED = frozenset({"forwarded", "via", "x-real-ip", "true-client-ip", "cf-connecting-ip", "fly-client-ip"})
FORWARDED_PREFIX = "x-forwarded"
OWN_PAGES = frozenset({"same-origin", "none"})
"""What a browser says in Sec-Fetch-Site of a request that no other site's page made."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The client that a request speaks for."""

    name: str
    admin: bool = False

    @property
    def scope(self) -> str | None:
        """Return the client whose things it may see, None for everybody's."""
        return None if self.admin else self.name

    def sees(self, client: str) -> bool:
        """Whether it may see what belongs to `client`."""
        return self.admin or client == self.name


LOCAL = Caller(name="local", admin=True)

UNKNOWN_KEY = Problem(
    status=401,
    kind="unknown-key",
    detail="send Authorization: Bearer KEY with a key of this service",
    headers={"WWW-Authenticate": "Bearer"},
)
LOCAL_ONLY = Problem(
    status=403,
    kind="local-only",
    detail="without BOOMERANG_API_KEYS only callers on this machine are served, by its loopback address",
)
ADMIN_ONLY = Problem(status=403, kind="admin-only", detail="this needs the key of an admin")


class ApiKeyMiddleware:
    """Middleware that finds out who calls, and lets nobody else pass, except to what is open."""

    def __init__(self, app: ASGIApp, *, api_keys: Sequence[ApiKey]) -> None:
        self._app = app
        self._known = [(_digest(each.key.encode()), Caller(name=each.name, admin=each.admin)) for each in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or answer 401 or 403."""
        if scope["type"] != "http" or _open(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        caller = self._caller(request)
        if isinstance(caller, Problem):
            await caller.response()(scope, receive, send)
            return
        request.state.caller = caller
        await self._app(scope, receive, send)

    def _caller(self, request: Request) -> Caller | Problem:
        if not self._known:
            return LOCAL if _from_this_machine(request) else LOCAL_ONLY
        given = _digest(_bearer(request))
        found: Caller | None = None
        for digest, caller in self._known:  # all of them, however early one fits
            if hmac.compare_digest(digest, given):
                found = caller
        return found or UNKNOWN_KEY


def caller_of(request: Request) -> Caller:
    """Return who calls, as the guard found out."""
    caller = request.state.caller
    if not isinstance(caller, Caller):
        raise TypeError("the guard did not run")
    return caller


def require_admin(request: Request) -> None:
    """Refuse with 403 whoever is no admin."""
    if not caller_of(request).admin:
        raise ProblemError(ADMIN_ONLY)


def _open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIX)


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()


def _bearer(request: Request) -> bytes:
    given = request.headers.getlist("authorization")
    scheme, _, key = (given[0] if len(given) == 1 else "").partition(" ")  # of two, a proxy may have checked the other
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def _from_this_machine(request: Request) -> bool:
    """Whether neither a tunnel nor a web page of somebody else's seems to stand between the caller and us."""
    if any(name in FORWARDED or name.startswith(FORWARDED_PREFIX) for name in request.headers):
        return False
    hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
    ours = all(origin.partition("://")[2] in hosts for origin in origins)
    return ours and len(hosts) == 1 and _loopback(hosts[0]) and _by_our_page(request)


def _by_our_page(request: Request) -> bool:
    """Whether a browser, which says so itself, was not sent here by another site's page."""
    return OWN_PAGES.issuperset(request.headers.getlist("sec-fetch-site"))


def _loopback(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
