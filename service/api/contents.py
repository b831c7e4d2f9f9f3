"""The endpoints of stored results: their content, and signed links that need no key."""

from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import get_args

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.api.audit import DETAIL
from service.api.authentication import caller_of
from service.api.content_response import content_response
from service.api.content_schemas import EXPIRES_IN, MAX_EXPIRES_IN, MIN_EXPIRES_IN, Variant
from service.api.endpoints import LINK_PREFIX, json_response, route
from service.api.ports import Links, StoredContents
from service.api.problems import Problem, ProblemError
from service.api.query_params import QueryParams, path_id, unknown_key_fault
from service.api.request_bodies import BodyReader, require_json
from service.api.request_context import TASK
from service.domain.artifact import StoredContent
from service.domain.errors import BadToken, Conflict, Fault, InvalidParams, NotFound
from service.domain.media.limits import Unreadable
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import TaskQueries
from service.domain.strict_json import parse_json
from service.domain.task import Json, Status, Task
from service.domain.task_view import rfc3339

VARIANTS = get_args(Variant)
MAX_OUTPUT = 99
SIGNED_FOR = timedelta(hours=1)
"""How long an address that the store signs is valid; of a link, until the link expires at most."""


@dataclass(kw_only=True, slots=True)
class ContentApi:
    """The endpoints of content and links. `public_url` is the beginning of links, None for that of the request."""

    queries: TaskQueries
    contents: StoredContents
    links: Links
    clock: Clock
    bodies: BodyReader
    public_url: str | None = None

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/tasks/{id}/content", get=self.show),
            route("/v1/tasks/{id}/links", post=self.create_link),
            route(LINK_PREFIX + "{token}", get=self.show_linked),
        ]

    async def show(self, request: Request) -> Response:
        """Respond with the stored file, or redirect to it."""
        return await self._content(request, await self._visible(request), SIGNED_FOR)

    async def create_link(self, request: Request) -> Response:
        """Create an address of the content that needs no key."""
        QueryParams(request).reject_errors()
        task = await self._visible(request)
        seconds = await self._expires_in(request)
        _require_completed(task)
        expires = self.clock.now() + timedelta(seconds=seconds)
        base = self.public_url or str(request.base_url).rstrip("/")
        url = f"{base}{LINK_PREFIX}{self.links.token(task.id, expires)}"
        setattr(request.state, DETAIL, f"until {rfc3339(expires)}")
        return json_response({"url": url, "expires_at": rfc3339(expires)}, status=201)

    async def show_linked(self, request: Request) -> Response:
        """Respond with the content that a link names; a link that is forged or expired is refused."""
        now = self.clock.now()
        task_id, expires = self.links.read(str(request.path_params["token"]), now)
        task = await self.queries.task(task_id)
        if task is None:
            raise BadToken("forged")
        request.scope["state"][TASK] = task.id
        return await self._content(request, task, min(SIGNED_FOR, expires - now), linked=True)

    async def _content(self, request: Request, task: Task, signed_for: timedelta, *, linked: bool = False) -> Response:
        query = QueryParams(request, "output", "variant")
        position = query.integer("output", 0, minimum=0, maximum=MAX_OUTPUT)
        variant = query.choice("variant", VARIANTS) or "video"
        query.reject_errors()
        return await self.respond(
            request, task, position=position, variant=variant, signed_for=signed_for, linked=linked
        )

    async def respond(
        self,
        request: Request,
        task: Task,
        *,
        position: int,
        variant: str,
        signed_for: timedelta,
        linked: bool = False,
    ) -> Response:
        """Respond with the stored file of a result; raises a 404 problem with the provider's address without one.

        `signed_for` is how long an address that the store signs is valid. Whoever has only a link gets no address.
        """
        _require_completed(task)
        if position >= len(task.output):
            raise NotFound(f"the task has {len(task.output)} outputs, counted from 0")
        item = task.output[position]
        content = await self.contents.find(item)
        if content is None:
            raise ProblemError(_not_archived(item, with_url=not linked))
        if variant == "thumbnail":
            content = await self._thumbnail(content)
        if from_page(request):
            return await content_response(request, content)
        method = "HEAD" if request.method == "HEAD" else "GET"
        signed = await self.contents.signed_url(content, method, signed_for)  # type: ignore[arg-type]
        if signed:
            return RedirectResponse(signed, HTTPStatus.FOUND, {"Cache-Control": "no-store"})
        return await content_response(request, content)

    async def _thumbnail(self, content: StoredContent) -> StoredContent:
        try:
            return await self.contents.thumbnail(content)
        except Unreadable as error:
            detail = f"no thumbnail can be made of the stored file: {error}"
            raise ProblemError(Problem(status=404, kind="no-thumbnail", detail=detail)) from error

    async def _visible(self, request: Request) -> Task:
        """Return the task of the path; raises NotFound for an unknown one and for that of another client."""
        task = await self.queries.task(path_id(request))
        if task is None or not caller_of(request).sees(task.client):
            raise NotFound("there is no such task")
        request.scope["state"][TASK] = task.id
        return task

    async def _expires_in(self, request: Request) -> int:
        """Return the seconds in the body; raises InvalidParams with every fault."""
        require_json(request)
        async with self.bodies.read(request) as body:
            data = parse_json(body)
        if not isinstance(data, dict):
            raise InvalidParams([Fault(loc=(), msg="must be a JSON object")])
        faults = [
            unknown_key_fault((), name, ["expires_in"], "field") for name in list(data)[:10] if name != "expires_in"
        ]
        seconds = data.get("expires_in", EXPIRES_IN)
        if isinstance(seconds, float) and seconds.is_integer():  # an integer for JSON Schema, and so for the document
            seconds = int(seconds)
        if type(seconds) is not int or not MIN_EXPIRES_IN <= seconds <= MAX_EXPIRES_IN:
            msg = f"must be a whole number of seconds from {MIN_EXPIRES_IN} to {MAX_EXPIRES_IN}"
            faults.append(Fault(loc=("expires_in",), msg=msg))
        if faults:
            raise InvalidParams(faults)
        return int(seconds)


def from_page(request: Request) -> bool:
    """Return whether a page of this service loads the content: it loads nothing from the address of a store."""
    dest, site = request.headers.get("sec-fetch-dest"), request.headers.get("sec-fetch-site")
    return site == "same-origin" and dest in {"video", "image"}


def _require_completed(task: Task) -> None:
    if task.status is not Status.COMPLETED:
        raise Conflict(f"the task is {task.status.value}: it has content once it is completed")


def _not_archived(item: Json, *, with_url: bool) -> Problem:
    """Return the problem of a result that is not in the archive; only who has a key gets the provider's address."""
    url = str(item.get("url") or "")
    detail = "the result is not stored in the archive of this service"
    return Problem(
        status=404,
        kind="not-archived",
        detail=f"{detail}; fetch it from the provider's address in `url` before that expires"
        if url and with_url
        else detail,
        extra={"url": url} if url and with_url else {},
    )
