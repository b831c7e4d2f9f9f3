"""The address that makes one-time links, which sign a browser in to the dashboard."""

from dataclasses import dataclass
from datetime import timedelta
from secrets import token_urlsafe
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import LOGIN_PATH, caller_of
from service.api.endpoints import json_response, route
from service.api.query_params import QueryParams
from service.domain.errors import NotFound
from service.domain.ports.signals import Clock
from service.domain.session_tokens import Kind, SignIn
from service.domain.task_view import rfc3339

LOGIN_PREFIX = "/sign-in/"
LINK_LIFE = timedelta(minutes=10)


class SignInTokens(Protocol):
    """Creates the tokens of sign-ins."""

    def token(self, kind: Kind, sign_in: SignIn) -> str:
        """Return the token of a sign-in."""


@dataclass(frozen=True, kw_only=True)
class LoginApi:
    """The address `/v1/login-links`; without `tokens` there is no dashboard to sign in to.

    `public_url` is the beginning of links, None for that of the request.
    """

    tokens: SignInTokens | None
    clock: Clock
    public_url: str | None

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route(LOGIN_PATH, post=self.create)]

    async def create(self, request: Request) -> Response:
        """Create a link that signs a browser in once, with the role of the key of this request."""
        QueryParams(request).reject_errors()
        if self.tokens is None:
            raise NotFound("there is no dashboard: BOOMERANG_DASHBOARD is off")
        expires = self.clock.now() + LINK_LIFE
        sign_in = SignIn(key_id=caller_of(request).key_id, id=token_urlsafe(18), expires=expires)
        base = self.public_url or str(request.base_url).rstrip("/")
        url = f"{base}{LOGIN_PREFIX}{self.tokens.token('login', sign_in)}"
        return json_response({"url": url, "expires_at": rfc3339(expires)}, status=201)
