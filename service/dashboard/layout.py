"""What all pages share: who may see them, the layout, forms with their tokens, errors as pages, and JSON."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.api.audit import AuditNote, Auditor
from service.api.authentication import Caller
from service.api.endpoints import json_response, route
from service.api.problems import ADMIN_ONLY, READ_ONLY, Problem, ProblemError, problem_of
from service.api.request_bodies import BodyReader
from service.dashboard import cookies
from service.dashboard.forms import (
    FOREIGN_FORM,
    FORM_TYPE,
    OLD_FORM,
    Form,
    StaleFormError,
    content_type,
    read_form,
    sent_without_session,
)
from service.dashboard.problem_texts import hint_for, title_of
from service.dashboard.request_checks import is_own_form, own_path, wants_json
from service.dashboard.templates import render
from service.dashboard.unsent_forms import UnsentForm
from service.dashboard.uploads import MULTIPART_TYPE, read_multipart
from service.domain.errors import BoomerangError
from service.domain.ports.signals import Clock
from service.domain.session_tokens import SessionTokens
from service.domain.task import Json

SIGN_IN = "/sign-in"
NAVIGATION = (
    ("/", "Attention"),
    ("/tasks", "Tasks"),
    ("/new", "New task"),
    ("/deliveries", "Deliveries"),
    ("/endpoints", "Endpoints"),
    ("/health", "Health"),
    ("/audit", "Audit log"),
)
LIVE = "x-live-update"
"""Header of requests that the script makes to update a page."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send forms with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
    "Vary": "Cookie, Accept",
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page: its template with values, and its JSON, either as `data` or at the address `json_url` of the API."""

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    data: Json | None = None
    json_url: str | None = None
    status: int = 200


View = Callable[[Request, Caller], Awaitable[Page | Response]]
Action = Callable[[Request, Caller, Form], Awaitable[Page | Response]]


@dataclass(kw_only=True)
class Layout:
    """Makes routes of views and actions. `admins` are the paths of pages for admins alone.

    `sign_in_page` returns the page to sign in which keeps a form that was sent without a session.
    """

    tokens: SessionTokens
    auditor: Auditor
    clock: Clock
    bodies: BodyReader
    public_url: str | None
    paths: set[str] = field(default_factory=set)
    admins: set[str] = field(default_factory=set)
    sign_in_page: Callable[[Request, UnsentForm], Response] | None = None

    def route(
        self,
        path: str,
        *,
        get: View | None = None,
        post: Action | None = None,
        admins_only: bool = False,
        read_only_too: bool = False,
        uploads: BodyReader | None = None,
    ) -> Route:
        """Return the route of a page that needs a caller; its actions need one who may change something.

        Actions that change nothing are for read-only callers too. With `uploads`, which reads the bodies, a form may
        contain files; they take the memory of the body until the action ends.
        """
        self.paths.add(path)
        if admins_only:
            self.admins.add(path)

        async def show(request: Request) -> Response:
            return await self._answer(request, partial(self._shown, get, request, admins_only=admins_only))

        async def act(request: Request) -> Response:
            done = partial(self._done, post, request, uploads=uploads, admins_only=admins_only)
            return await self._answer(request, partial(done, changes=not read_only_too))

        return route(path, get=show if get else None, post=act if post else None)

    def recording(self, caller: Caller, action: str, target: str = "") -> AbstractAsyncContextManager[AuditNote]:
        """Record what the block changes: before it, and at its end with what the note says by then."""
        return self.auditor.recording(caller, action, target, road="dashboard")

    async def _shown(
        self, view: View | None, request: Request, caller: Caller, *, admins_only: bool
    ) -> Page | Response:
        if admins_only and not caller.sees_all:
            raise ProblemError(ADMIN_ONLY)
        return await cast("View", view)(request, caller)

    async def _done(
        self,
        action: Action | None,
        request: Request,
        caller: Caller,
        *,
        uploads: BodyReader | None,
        admins_only: bool,
        changes: bool,
    ) -> Page | Response:
        if changes and caller.read_only:
            raise ProblemError(READ_ONLY)
        if admins_only and not caller.admin:
            raise ProblemError(ADMIN_ONLY)
        subject = subject_of(caller)
        if uploads is None or content_type(request) != MULTIPART_TYPE:
            return await cast("Action", action)(request, caller, await self.form(request, subject))
        async with uploads.read(request) as body:
            form = Form(*await read_multipart(request.headers, body))
            self.check_token(request, subject, form)
            return await cast("Action", action)(request, caller, form)

    async def _answer(self, request: Request, view: Callable[[Caller], Awaitable[Page | Response]]) -> Response:
        caller = getattr(request.state, "caller", None)
        if not isinstance(caller, Caller):
            return await self._unknown(request)
        try:
            found = await view(caller)
        except StaleFormError as stale:
            return self.response(request, unsent_page(stale.form), caller)
        except (BoomerangError, HTTPException, ClientDisconnect) as error:
            return self.problem_page(request, problem_of(error), caller)
        return found if isinstance(found, Response) else self.response(request, found, caller)

    async def _unknown(self, request: Request) -> Response:
        """Return the way to the sign-in page, or the reason why nobody can sign in."""
        refusal: Problem = request.state.refusal
        if refusal.status != HTTPStatus.UNAUTHORIZED:
            return self.problem_page(request, refusal, None)
        if wants_json(request):
            return refusal.response()
        if request.method == "POST":
            form = await sent_without_session(request, self.bodies, self.public_url)
            return self.sign_in_page(request, form) if form and self.sign_in_page else redirect(SIGN_IN)
        return _way_to_sign_in(request)

    async def form(self, request: Request, subject: str) -> Form:
        """Return the fields of the form of a request; raises a 403 problem unless a page of this service sent it."""
        if content_type(request) != FORM_TYPE:
            raise ProblemError(Problem(status=415, kind="not-a-form", detail=f"send the form as {FORM_TYPE}"))
        form = await read_form(request, self.bodies)
        self.check_token(request, subject, form)
        return form

    def check_token(self, request: Request, subject: str, form: Form) -> None:
        """Raise a 403 problem unless a form has the token of `subject`, and no other site sent it.

        Raises StaleFormError for the form of another session, if it surely comes from a page of this service.
        """
        if not is_own_form(request, self.public_url):
            raise ProblemError(FOREIGN_FORM)
        token = form.get("form_token")
        if not self.tokens.is_form_token(subject, token):
            if token and ("origin" in request.headers or "sec-fetch-site" in request.headers):
                raise StaleFormError(form.unsent(request.url.path))
            raise ProblemError(OLD_FORM)

    def response(self, request: Request, page: Page, caller: Caller | None) -> Response:
        """Return a page as HTML, or its JSON where that is asked for."""
        if wants_json(request):
            if page.data is not None:
                return json_response(page.data, status=page.status, headers={"Vary": HEADERS["Vary"]})
            if page.json_url is not None:
                return redirect(page.json_url)
        shown = None if LIVE in request.headers else cookies.read_notice(request)
        text = render(page.template, **self._values(request, page, caller), notice=shown, **page.values)
        body = text.encode("utf-8", "replace")  # a client's JSON may have lone surrogates
        response = Response(body, page.status, HEADERS, "text/html; charset=utf-8")
        if shown:
            secure = cookies.is_secure(request, self.public_url)
            cookies.write(response, cookies.NOTICE, "", seconds=0, secure=secure)
        return response

    def problem_page(self, request: Request, problem: Problem, caller: Caller | None) -> Response:
        """Return a problem as a page with its headers, or as it is where JSON is asked for."""
        if wants_json(request):
            return problem.response()
        values = {"problem": problem, "back": _back(request, problem), "hint": hint_for(problem)}
        page = Page(template="problem.html", title=title_of(problem), values=values, status=problem.status)
        response = self.response(request, page, caller)
        response.headers.update(problem.headers)
        return response

    def other_problem(self, request: Request, problem: Problem) -> Response:
        """Return the page of a problem outside of a page; the way to sign in where a person would read with a key."""
        caller = getattr(request.state, "caller", None)
        known = caller if isinstance(caller, Caller) and not caller.internal else None
        if problem.status == HTTPStatus.UNAUTHORIZED and request.method == "GET" and not wants_json(request):
            return _way_to_sign_in(request)
        return self.problem_page(request, problem, known)

    def done(self, request: Request, address: str, text: str, *, level: cookies.Level = "done") -> Response:
        """Return the way to the page at `address`, which shows the notice `text` once."""
        response = redirect(address)
        secure = cookies.is_secure(request, self.public_url)
        value = cookies.notice_value(level, text)
        cookies.write(response, cookies.NOTICE, value, seconds=cookies.NOTICE_SECONDS, secure=secure)
        return response

    def now(self) -> datetime:
        """Return the current time."""
        return self.clock.now()

    def _values(self, request: Request, page: Page, caller: Caller | None) -> dict[str, Any]:
        has_address = page.data is not None and request.method != "POST"  # by GET, that of an action is another page
        json_url = page.json_url or (_with_json(request) if has_address else None)
        hidden = set() if caller and caller.sees_all else self.admins
        return {
            "title": page.title,
            "caller": caller,
            "path": request.url.path,
            "now": self.clock.now(),
            "navigation": [(path, name) for path, name in NAVIGATION if path in self.paths - hidden],
            "json_url": json_url,
            "form_token": self.tokens.form_token(subject_of(caller)) if caller else "",
        }


def unsent_page(form: UnsentForm) -> Page:
    """Return the page that asks whether to send a form in another session."""
    values = {"form": form}
    return Page(template="unsent.html", title="Send the form?", values=values, status=int(HTTPStatus.FORBIDDEN))


def subject_of(caller: Caller) -> str:
    """Return whose forms a caller sends: those of its session, else those of its key."""
    return f"session {caller.session}" if caller.session else f"key {caller.key_id}"


def redirect(address: str) -> RedirectResponse:
    """Return the way to another page, which is read by GET."""
    return RedirectResponse(address, int(HTTPStatus.SEE_OTHER), {"Cache-Control": "no-store", "Vary": HEADERS["Vary"]})


def _way_to_sign_in(request: Request) -> RedirectResponse:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return redirect(f"{SIGN_IN}?{urlencode({'next': wanted})}" if wanted != "/" else SIGN_IN)


def _with_json(request: Request) -> str:
    pairs = [pair for pair in request.query_params.multi_items() if pair[0] != "format"]
    return f"{request.url.path}?{urlencode([*pairs, ('format', 'json')])}"


def _back(request: Request, problem: Problem) -> str:
    """Return the page before the address of an action: that of the task for `/tasks/{id}/cancel`."""
    is_action = request.method == "POST" or problem.status == HTTPStatus.METHOD_NOT_ALLOWED
    return own_path(request.url.path.rsplit("/", 1)[0] or "/") if is_action else "/"
