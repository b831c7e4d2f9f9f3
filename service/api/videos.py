"""An OpenAI-shaped video API over this service: an unmodified SDK needs another base address and a key."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import get_args

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.api.authentication import caller_of
from service.api.contents import ContentApi
from service.api.endpoints import json_response, route
from service.api.ports import TaskErasure, WaitingNotes
from service.api.problem_shapes import MAY_EXIST
from service.api.problems import Problem, ProblemError
from service.api.query_params import QueryParams, idempotency_key, path_id
from service.api.repeated_creates import RepeatedCreates, create_key
from service.api.request_context import TASK
from service.api.request_work import RequestWork
from service.api.task_acceptor import TaskAcceptor, new_task
from service.api.video_bodies import REFERENCE, VideoBody, video_body
from service.api.video_requests import Translation, task_request
from service.api.video_schemas import VideoVariant
from service.domain.errors import InvalidParams, NotFound, QueueFull
from service.domain.json_digest import json_digest
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import IdempotencyKey, TaskFilter, TaskQueries
from service.domain.task import Task, TaskId
from service.domain.video_shape import COMPLETED, FAILED, video_object

POLL_HEADER = "openai-poll-after-ms"
POLL_AFTER_MS = 2000
"""Milliseconds between two polls of a client. It reads this once; the provider is not asked."""

PAGE_SIZE, MAX_PAGE_SIZE = 20, 100
VARIANTS = get_args(VideoVariant)
IMAGES = "images"
"""Parameter of a model that `input_reference` becomes."""

SIGNED_FOR = timedelta(hours=1)
UNLISTED = frozenset({"metadata", "notify", "hinted_fact"})
ARCHIVED_WITHIN = timedelta(minutes=1)
"""How long after the end of a task its thumbnail may still appear: the SDK retries."""
RETRY_SOON = {"Retry-After": "2", "x-should-retry": "true"}
NO_SPRITESHEET = Problem(
    status=400,
    kind="no-spritesheet",
    detail="no sprite sheets are made here: use the variant video or thumbnail",
)


@dataclass(kw_only=True, slots=True)
class VideoApi:
    """The endpoints under `/v1/videos`."""

    acceptor: TaskAcceptor
    queries: TaskQueries
    notes: WaitingNotes
    contents: ContentApi
    erasure: TaskErasure
    work: RequestWork
    clock: Clock
    repeated: RepeatedCreates = field(init=False)

    def __post_init__(self) -> None:
        self.repeated = RepeatedCreates(self.queries)

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/videos", get=self.list_videos, post=self.create),
            route("/v1/videos/{id}", get=self.show, delete=self.delete),
            route("/v1/videos/{id}/content", get=self.content),
        ]

    async def create(self, request: Request) -> Response:
        """Accept a task, and respond with its video once it is durable."""
        arrived_at = self.clock.now()
        async with video_body(self.acceptor.bodies, request) as body:
            translated = task_request(body.data)
            try:
                task = await self._accepted(request, body, translated, arrived_at)
            except InvalidParams as invalid:
                if IMAGES not in translated.params:  # the SDK has only this argument for them
                    translated.sources[IMAGES] = REFERENCE
                raise InvalidParams(translated.request_faults(invalid.faults)) from invalid
        return _video(await self.work.tried(task))

    async def list_videos(self, request: Request) -> Response:
        """List the caller's videos by time."""
        query = QueryParams(request, "after", "limit", "order", lenient=True)
        after = query.text("after")
        limit = query.integer("limit", PAGE_SIZE, minimum=1, maximum=MAX_PAGE_SIZE)
        order = query.choice("order", ("asc", "desc"))
        query.reject_errors()
        wanted = TaskFilter(
            client=caller_of(request).scope,
            limit=limit + 1,
            cursor=(await self._listed(request, after)).id if after else None,
            without=UNLISTED,
            oldest_first=order == "asc",
        )
        found = await self.queries.tasks(wanted)
        while len(found) > limit and all(task.erased_at for task in found[:limit]):  # clients end at an empty page
            found = await self.queries.tasks(replace(wanted, cursor=found[limit - 1].id))
        shown = [video_object(task) for task in found[:limit] if task.erased_at is None]
        first, last = (shown[0]["id"], found[:limit][-1].id) if shown else (None, None)
        page = {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": len(found) > limit}
        return json_response(page)

    async def show(self, request: Request) -> Response:
        """Show one video."""
        task = await self.work.tried(await self._visible(request, path_id(request)), if_due=True)
        [task] = await self.notes.noted([task])
        return _video(task)

    async def delete(self, request: Request) -> Response:
        """Erase a video that has ended, with its inputs and stored files."""
        task = await self._visible(request, path_id(request))
        await self.erasure.erase(task.id)
        return json_response({"id": task.id, "object": "video.deleted", "deleted": True})

    async def content(self, request: Request) -> Response:
        """Respond with the stored file, or redirect to where it is."""
        query = QueryParams(request, "variant", lenient=True)
        variant = query.choice("variant", VARIANTS) or "video"
        query.reject_errors()
        task = await self._visible(request, path_id(request))
        if variant == "spritesheet":
            raise ProblemError(NO_SPRITESHEET)
        try:
            return await self.contents.respond(request, task, position=0, variant=variant, signed_for=SIGNED_FOR)
        except ProblemError as error:
            url = error.problem.extra.get("url")
            if variant != "video" and url and self._just_ended(task):
                raise ProblemError(replace(error.problem, headers=RETRY_SOON)) from error
            if variant != "video" or not url:
                raise
            return RedirectResponse(url, HTTPStatus.FOUND, {"Cache-Control": "no-store"})

    def _just_ended(self, task: Task) -> bool:
        return task.settled_at is not None and self.clock.now() - task.settled_at < ARCHIVED_WITHIN

    async def _accepted(self, request: Request, body: VideoBody, found: Translation, arrived_at: datetime) -> Task:
        """Return the task of a create: that of an equal one which the client repeats, or a new one."""
        caller, given = caller_of(request), idempotency_key(request)
        digest = await run_sync(json_digest, found.body)
        key = IdempotencyKey(key=given, digest=digest) if given else create_key(request, digest, arrived_at)
        async with self.repeated.turn(caller.name, digest):
            if earlier := await self.repeated.earlier(caller.name, key):
                return earlier
            new = await new_task(
                found.body,
                caller=caller,
                idempotency=key,
                nul=body.nul,
                size=body.size,
                known_faults=found.faults,
            )
            request.scope["state"][MAY_EXIST] = True
            try:
                return (await self.acceptor.accept(request, new)).task
            except (InvalidParams, QueueFull):
                request.scope["state"][MAY_EXIST] = False
                raise

    async def _visible(self, request: Request, task_id: str) -> Task:
        """Return a task; raises NotFound for an unknown one and for that of another client."""
        task = await self._listed(request, task_id)
        if task.erased_at is not None:
            raise NotFound("there is no such video")
        request.scope["state"][TASK] = task.id
        return task

    async def _listed(self, request: Request, task_id: str) -> Task:
        """Return a task, also an erased one: a page may have ended with it."""
        task = await self.queries.task(TaskId(task_id))
        if task is None or not caller_of(request).sees(task.client):
            raise NotFound("there is no such video")
        return task


def _video(task: Task) -> Response:
    shown = video_object(task)
    waits = shown["status"] not in {COMPLETED, FAILED}
    return json_response(shown, headers={POLL_HEADER: str(POLL_AFTER_MS)} if waits else None)
