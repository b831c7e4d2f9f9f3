"""The endpoints of tasks: create, show, list, cancel, resubmit."""

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import caller_of
from service.api.endpoints import json_response, route, task_object
from service.api.history import history_page, waiting_entry
from service.api.long_poll import LongPoll
from service.api.pages import PageTurns, page_response
from service.api.ports import TaskErasure, TaskService, WaitingNotes
from service.api.query_params import (
    MAX_INTEGER,
    MAX_ROWS,
    QueryParams,
    path_id,
    preferred_wait,
)
from service.api.request_context import TASK
from service.api.request_work import RequestWork
from service.api.resubmissions import requested_changes, resubmitted
from service.api.task_acceptor import TaskAcceptor
from service.api.task_filters import FILTERS, task_filter
from service.api.task_responses import retry_after, task_response
from service.api.window_reader import task_reader
from service.domain.errors import NotFound
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import BlobStore, TaskQueries
from service.domain.task import Json, Task
from service.domain.task_view import task_json

UNLISTED = frozenset({"notify", "hinted_fact"})
"""Fields that no list shows; they may be large."""


@dataclass(kw_only=True, slots=True)
class TaskApi:
    """The endpoints under `/v1/tasks`."""

    task_service: TaskService
    erasure: TaskErasure
    queries: TaskQueries
    blobs: BlobStore
    long_poll: LongPoll
    acceptor: TaskAcceptor
    notes: WaitingNotes
    turns: PageTurns
    work: RequestWork
    clock: Clock

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/tasks", get=self.list_tasks, post=self.create),
            route("/v1/tasks/counts", get=self.count_tasks),
            route("/v1/tasks/{id}", get=self.show, delete=self.erase),
            route("/v1/tasks/{id}/cancel", post=self.cancel),
            route("/v1/tasks/{id}/resubmit", post=self.resubmit),
            route("/v1/tasks/{id}/events", get=self.history),
        ]

    async def create(self, request: Request) -> Response:
        """Accept a task: respond 202 once it is durable, 200 for the task of a known idempotency key."""
        seconds, headers = self._wanted_wait(request)
        accepted = await self.acceptor.from_json(request)
        task = accepted.task
        headers["Location"] = f"/v1/tasks/{task.id}"
        if seconds:
            [task] = await self.notes.noted([await self.long_poll.until_settled(task, seconds, request)])
        else:
            task = await self.work.tried(task)
        body = task_json(task) | {"payload": accepted.payload}
        return json_response(body, status=202 if accepted.created else 200, headers=headers)

    async def show(self, request: Request) -> Response:
        """Show one task; with `wait` once it is settled or the time is up."""
        seconds, headers = self._wanted_wait(request)
        task = await self._visible(request)
        if not seconds:
            task = await self.work.tried(task, if_due=True)
        [task] = await self.notes.noted([await self.long_poll.until_settled(task, seconds, request)])
        headers |= retry_after(task, self.clock.now())
        return task_response(request, await task_object(task, self.blobs), headers)

    async def erase(self, request: Request) -> Response:
        """Erase what an ended task contains: respond with what stays."""
        QueryParams(request).reject_errors()
        task = await self.erasure.erase((await self._visible(request)).id)
        return json_response(await task_object(task, self.blobs))

    async def list_tasks(self, request: Request) -> Response:
        """List the tasks that pass the filters, newest first."""
        query = QueryParams(request, *FILTERS, "limit", "cursor", "include")
        metadata = query.includes("metadata")
        wanted = task_filter(query, caller_of(request))
        wanted = replace(wanted, without=frozenset(UNLISTED if metadata else {*UNLISTED, "metadata"}))
        limit = query.integer("limit", 50, minimum=1, maximum=MAX_ROWS)
        cursor = query.cursor("task")
        query.reject_errors()
        reader = task_reader(self.queries, self.notes, replace(wanted, cursor=cursor))
        render = task_json if metadata else _without_metadata
        async with self.turns.turn(caller_of(request).name) as pause:
            return await page_response(
                "task",
                reader.read,
                render,
                limit=limit,
                cursor=cursor,
                pause=pause,
                rest=reader.rest,
                position_after=reader.position_after,
            )

    async def count_tasks(self, request: Request) -> Response:
        """Count the tasks that pass the filters, by status."""
        query = QueryParams(request, *FILTERS)
        wanted = task_filter(query, caller_of(request))
        query.reject_errors()
        counts = await self.queries.status_counts(wanted)
        return json_response({"data": [vars(each) for each in counts]})

    async def cancel(self, request: Request) -> Response:
        """Cancel a task."""
        QueryParams(request).reject_errors()
        task = await self.work.tried(await self.task_service.cancel((await self._visible(request)).id))
        return json_response(await task_object(task, self.blobs))

    async def resubmit(self, request: Request) -> Response:
        """Create a new task from an in-doubt or failed one, or with changed parameters from any that has ended."""
        QueryParams(request).reject_errors()
        async with self.acceptor.bodies.read(request) as body:
            changes = requested_changes(request, body)
            old, created = await self._visible(request), True
            if changes is None:
                task = await self.task_service.resubmit(old.id)
            else:
                task, created = await resubmitted(self.task_service, old, changes, request, body)
        task = await self.work.tried(task)
        headers = {"Location": f"/v1/tasks/{task.id}"}
        return json_response(await task_object(task, self.blobs), status=202 if created else 200, headers=headers)

    async def history(self, request: Request) -> Response:
        """Show the history of a task, oldest entry first."""
        query = QueryParams(request, "cursor", "include")
        after, metadata = query.position(), query.includes("metadata")
        query.reject_errors()
        [task] = await self.notes.noted([await self._visible(request)])
        caller, waiting = caller_of(request), waiting_entry(task, self.clock.now())
        async with self.turns.turn(caller.name) as pause:
            return await history_page(
                self.queries, task.id, caller, after=after, metadata=metadata, waiting=waiting, pause=pause
            )

    def _wanted_wait(self, request: Request) -> tuple[int, dict[str, str]]:
        """Return for how many seconds to wait for the task, and the header that names an applied preference."""
        query = QueryParams(request, "wait")
        seconds = query.integer("wait", 0, minimum=0, maximum=MAX_INTEGER)
        query.reject_errors()
        preferred = preferred_wait(request)
        if preferred is None:
            return seconds, {}
        applied = min(preferred, self.long_poll.max_seconds)
        return applied, {"Preference-Applied": f"wait={applied}"}

    async def _visible(self, request: Request) -> Task:
        """Return the task of the path; raises NotFound for an unknown one and for that of another client."""
        task = await self.queries.task(path_id(request))
        if task is None or not caller_of(request).sees(task.client):
            raise NotFound("there is no such task")
        request.scope["state"][TASK] = task.id
        return task


def _without_metadata(task: Task) -> Json:
    found = task_json(task)
    del found["metadata"]
    return found
