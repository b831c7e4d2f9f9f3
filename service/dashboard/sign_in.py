"""Signing in and out: by an API key, or by a one-time link of `boomerang login`."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from secrets import token_urlsafe
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import LOCAL, Caller
from service.api.endpoints import Endpoint, route
from service.api.logins import LOGIN_PREFIX
from service.api.problems import Problem, ProblemError, problem_of
from service.dashboard import cookies
from service.dashboard.forms import Form
from service.dashboard.layout import SIGN_IN, Layout, Page, redirect, unsent_page
from service.dashboard.request_checks import own_path
from service.dashboard.unsent_forms import UnsentForm, read_unsent
from service.domain.api_key import ApiKey
from service.domain.errors import BadToken, BoomerangError
from service.domain.hosts import is_loopback
from service.domain.ports.audit import EndedSignIns
from service.domain.session_tokens import LOCAL_KEY, SessionTokens, SignIn, key_fingerprint

SESSION_LIFE = timedelta(days=7)
LINK_ENDED = Problem(
    status=403,
    kind="bad-login-link",
    detail="this link was used or is out of date; `boomerang login` prints a new one",
)
UNKNOWN = "This is not a key of this service. Copy it again, without blanks."


@dataclass(kw_only=True)
class SignIns:
    """The pages to sign in and out, and the sessions of browsers."""

    layout: Layout
    tokens: SessionTokens
    ended: EndedSignIns
    api_keys: list[ApiKey]
    _key_ids: Mapping[str, ApiKey] = field(init=False)

    def __post_init__(self) -> None:
        self._key_ids = {key_fingerprint(each.key): each for each in self.api_keys}
        self.layout.sign_in_page = self._form_with_unsent

    def routes(self) -> list[Route]:
        """Return the routes, which need no caller but the one that signs out."""
        return [
            route(SIGN_IN, get=self._guarded(self.show), post=self._guarded(self.sign_in)),
            route(LOGIN_PREFIX + "{token}", get=self._guarded(self.show_link), post=self._guarded(self.use_link)),
            self.layout.route("/sign-out", get=self.show_start, post=self.sign_out, read_only_too=True),
        ]

    async def session(self, request: Request) -> tuple[str, str] | None:
        """Return the key id and the id of the session of a request, None without a valid one."""
        token = cookies.read(request, cookies.SESSION)
        if not token:
            return None
        try:
            found = self.tokens.read("session", token, self.layout.now())
        except BadToken:
            return None
        return None if await self.ended.ended(found.id) else (found.key_id, found.id)

    async def show(self, request: Request) -> Response:
        """Show the form for a key; whoever is signed in goes on."""
        if isinstance(getattr(request.state, "caller", None), Caller):
            return redirect(_next(request))
        return self._form(request, _next(request))

    async def sign_in(self, request: Request) -> Response:
        """Sign in with the key of the form."""
        form = await self.layout.form(request, self._browser(request))
        digest, found = key_fingerprint(form.get("key").strip()), None
        for key_id in self._key_ids:  # all of them, so that the time does not depend on the match
            found = key_id if hmac.compare_digest(key_id, digest) else found
        unsent = read_unsent(form.get("unsent"))
        if found is None:
            return self._form(request, own_path(form.get("next")), fault=UNKNOWN, unsent=unsent)
        return await self._begin(request, found, own_path(form.get("next")), unsent=unsent)

    async def show_link(self, request: Request) -> Response:
        """Show the button of a link; a browser on this machine needs none.

        Programs that look at links in messages would otherwise use them up, and some are browsers: one would then have
        the session. No such program reaches a loopback address.
        """
        found = await self._link(request)
        headers = request.headers
        opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        here = is_loopback(request.url.hostname or "") and "x-forwarded-for" not in headers
        if request.method == "GET" and opened and here and "sec-purpose" not in headers:
            return await self._use(request, found)
        page = Page(template="sign_in_link.html", title="Sign in", values={})
        return self._with_browser(request, page)

    async def use_link(self, request: Request) -> Response:
        """Sign in by the button of a link."""
        await self.layout.form(request, self._browser(request))
        return await self._use(request, await self._link(request))

    async def show_start(self, _request: Request, _caller: Caller) -> Response:
        """Lead to the front page: signing out takes a button."""
        return redirect("/")

    async def sign_out(self, request: Request, caller: Caller, _: Form) -> Response:
        """End the session, for good."""
        response = redirect(SIGN_IN)
        if caller.session:
            now = self.layout.now()
            async with self.layout.recording(caller, "session.end"):
                await self.ended.end(caller.session, expires=now + SESSION_LIFE, now=now)
        self._write(request, response, cookies.SESSION, "", seconds=0)
        return response

    async def _link(self, request: Request) -> SignIn:
        """Return the sign-in of the link in the path; raises a 403 problem for one that is used or invalid."""
        try:
            found = self.tokens.read("login", str(request.path_params["token"]), self.layout.now())
        except BadToken as error:
            raise ProblemError(LINK_ENDED) from error
        known = found.key_id in self._key_ids or (found.key_id == LOCAL_KEY and not self.api_keys)
        if not known or await self.ended.ended(found.id):
            raise ProblemError(LINK_ENDED)
        return found

    async def _use(self, request: Request, link: SignIn) -> Response:
        if not await self.ended.end(link.id, expires=link.expires, now=self.layout.now()):
            raise ProblemError(LINK_ENDED)
        return await self._begin(request, link.key_id, _next(request))

    async def _begin(
        self, request: Request, key_id: str, address: str, *, unsent: UnsentForm | None = None
    ) -> Response:
        """Begin a session and go to `address`, or ask whether to send the form `unsent`.

        The local admin of a service without keys needs no session.
        """
        response: Response = redirect(address)
        key = self._key_ids.get(key_id)
        if key is not None:
            sign_in = SignIn(key_id=key_id, id=token_urlsafe(18), expires=self.layout.now() + SESSION_LIFE)
            if unsent:
                now = Caller(name=key.name, admin=key.admin, read_only=key.read_only, session=sign_in.id)
                response = self.layout.response(request, replace(unsent_page(unsent), status=200), now)
            token = self.tokens.token("session", sign_in)
            self._write(request, response, cookies.SESSION, token, seconds=int(SESSION_LIFE.total_seconds()))
            self._write(request, response, cookies.BROWSER, "", seconds=0)
        caller = Caller(name=key.name, admin=key.admin, read_only=key.read_only) if key else LOCAL
        await self.layout.auditor.begin(caller, "session.begin", detail="", road="dashboard")
        return response

    def _form_with_unsent(self, request: Request, unsent: UnsentForm) -> Response:
        """Return the page to sign in for a form that was sent without a session."""
        return self._form(request, "/", unsent=unsent)

    def _form(self, request: Request, address: str, *, fault: str = "", unsent: UnsentForm | None = None) -> Response:
        values = {"next": address, "fault": fault, "unsent": unsent.text if unsent else ""}
        page = Page(template="sign_in.html", title="Sign in", values=values, status=403 if fault else 200)
        return self._with_browser(request, page)

    def _with_browser(self, request: Request, page: Page) -> Response:
        """Return a page without a caller, with the cookie to which the token of its form belongs."""
        subject = cookies.read(request, cookies.BROWSER) or token_urlsafe(18)
        values = {**page.values, "browser_token": self.tokens.form_token(f"browser {subject}")}
        response = self.layout.response(request, Page(**(vars(page) | {"values": values})), None)
        self._write(request, response, cookies.BROWSER, subject, seconds=3600)
        return response

    def _browser(self, request: Request) -> str:
        return f"browser {cookies.read(request, cookies.BROWSER) or ''}"

    def _write(self, request: Request, response: Response, name: str, value: str, *, seconds: int) -> None:
        secure = cookies.is_secure(request, self.layout.public_url)
        cookies.write(response, name, value, seconds=seconds, secure=secure)

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except BoomerangError as error:
                return self.layout.problem_page(request, problem_of(error), None)

        return answer


def _next(request: Request) -> str:
    """Return where to go after signing in; not to the page that signs in."""
    address = own_path(request.query_params.get("next", "/"))
    return "/" if urlsplit(address).path.startswith(SIGN_IN) else address
