"""The tasks of the API: ask for one, look at them, decide about them."""

from hashlib import sha256

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import Caller, caller_of
from service.api.long_poll import LongPoll
from service.api.ports import Desk
from service.api.problems import Problem, ProblemError
from service.api.query_params import (
    LONGEST_WAIT,
    MOST_ROWS,
    QueryParams,
    cursor_of,
    idempotency_key,
    path_id,
    preferred_wait,
)
from service.api.request_bodies import THREAD_FROM, BodyLimits, BodyReader, parsed, require_json
from service.api.request_context import TASK
from service.api.responses import json_response, page_answer, task_object, whole_task
from service.api.routing import route
from service.api.task_requests import NUL_ESCAPE, new_task
from service.domain.errors import Conflict, NotFound
from service.domain.ports.tasks import BlobStore, IdempotencyKey, TaskFilter, TaskQueries
from service.domain.task import Status, Task
from service.domain.task_view import task_json


class TaskApi:
    """Answers everything under `/v1/tasks`."""

    def __init__(
        self, task_service: Desk, queries: TaskQueries, blobs: BlobStore, waiting: LongPoll, limits: BodyLimits
    ) -> None:
        self._task_service = task_service
        self._queries = queries
        self._blobs = blobs
        self._waiting = waiting
        self._bodies = BodyReader(limits)

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/tasks", get=self.list_tasks, post=self.create),
            route("/v1/tasks/{id}", get=self.show),
            route("/v1/tasks/{id}/cancel", post=self.cancel),
            route("/v1/tasks/{id}/resubmit", post=self.resubmit),
            route("/v1/tasks/{id}/events", get=self.history),
        ]

    async def create(self, request: Request) -> Response:
        """Accept a new task: 202 once it is durable, 200 for one that the idempotency key names already."""
        seconds = _asked_wait(request)
        preferred = preferred_wait(request)
        task, created, payload = await self._accept(request)
        task = await self._waiting.until_settled(task, seconds if preferred is None else preferred, request)
        headers = _location(task) | ({} if preferred is None else {"Preference-Applied": f"wait={preferred}"})
        return json_response(whole_task(task, payload), status=202 if created else 200, headers=headers)

    async def show(self, request: Request) -> Response:
        """Show one task; with `wait` once it is settled or the time is up."""
        seconds = _asked_wait(request)
        task = await self._waiting.until_settled(await self._owned(request), seconds, request)
        return json_response(await task_object(task, self._blobs))

    async def list_tasks(self, request: Request) -> Response:
        """List tasks, newest first."""
        wanted = _filter(request, caller_of(request))
        found = await self._queries.tasks(wanted)
        page = found[: wanted.limit - 1]
        more = cursor_of("task", page[-1].id) if len(found) > len(page) else None
        return page_answer([task_json(task) for task in page], more)

    async def cancel(self, request: Request) -> Response:
        """Cancel a task."""
        QueryParams(request).done()
        task = await self._task_service.cancel((await self._owned(request)).id)
        return json_response(await task_object(task, self._blobs))

    async def resubmit(self, request: Request) -> Response:
        """Make a new attempt of an in-doubt or failed task."""
        QueryParams(request).done()
        task = await self._task_service.resubmit((await self._owned(request)).id)
        return json_response(await task_object(task, self._blobs), status=202, headers=_location(task))

    async def history(self, request: Request) -> Response:
        """Tell everything that happened to a task, oldest first."""
        QueryParams(request).done()
        task = await self._owned(request)
        return json_response({"data": await self._queries.history(task.id)})

    async def _owned(self, request: Request) -> Task:
        """Return the task in the path; raises NotFound for an unknown one and for another client's."""
        task = await self._queries.task(path_id(request))
        if task is None or not caller_of(request).sees(task.client):
            raise NotFound("there is no such task")
        request.scope["state"][TASK] = task.id
        return task

    async def _accept(self, request: Request) -> tuple[Task, bool, str | None]:
        """Read the body and hand it to the desk; return the task, whether it is new, and the caller's own payload.

        The body's bytes are in hand no longer than this. A task of before has the same payload: the body is the same.
        """
        require_json(request)
        key = idempotency_key(request)
        async with self._bodies.read(request) as body:
            idempotency = None if key is None else IdempotencyKey(key=key, digest=await _digest(body))
            nul = b"\\" in body and NUL_ESCAPE in body  # the first is quick
            size = len(body)
            data = await parsed(body)
            del body
            new = await new_task(data, client=caller_of(request).name, idempotency=idempotency, nul=nul, size=size)
            del data
            try:
                task, created = await self._task_service.accept(new)
            except Conflict as conflict:
                raise ProblemError(
                    Problem(status=422, kind="idempotency-key-reused", detail=str(conflict))
                ) from conflict
            request.scope["state"][TASK] = task.id
            return task, created, new.payload


async def _digest(body: bytes) -> str:
    hashed = sha256(body) if len(body) <= THREAD_FROM else await run_sync(sha256, body)
    return hashed.hexdigest()


def _asked_wait(request: Request) -> int:
    query = QueryParams(request, "wait")
    seconds = query.whole("wait", 0, minimum=0, maximum=LONGEST_WAIT)
    query.done()
    return seconds


def _filter(request: Request, caller: Caller) -> TaskFilter:
    """Return what to list; one row more than asked for, which tells whether there is a next page."""
    query = QueryParams(request, "status", "model", "limit", "cursor")
    wanted = TaskFilter(
        client=caller.scope,
        status=query.choice("status", [each.value for each in Status]),
        model=query.text("model"),
        limit=query.whole("limit", 50, minimum=1, maximum=MOST_ROWS) + 1,
        cursor=query.cursor("task"),
    )
    query.done()
    return wanted


def _location(task: Task) -> dict[str, str]:
    return {"Location": f"/v1/tasks/{task.id}"}
