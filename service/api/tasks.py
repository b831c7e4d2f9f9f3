"""The endpoints of tasks: create, show, list, cancel, resubmit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import Caller, caller_of
from service.api.endpoints import json_response, route, task_object
from service.api.history import history_page, waiting_entry
from service.api.long_poll import LongPoll
from service.api.pages import PageTurns, page_response
from service.api.ports import TaskService, WaitingNotes
from service.api.problems import Problem, ProblemError
from service.api.query_params import (
    MAX_INTEGER,
    MAX_ROWS,
    QueryParams,
    idempotency_key,
    path_id,
    preferred_wait,
    unknown_key_fault,
)
from service.api.request_bodies import MB, BodyReader, require_json
from service.api.request_context import TASK
from service.api.request_work import RequestWork
from service.domain.errors import Conflict, Fault, InvalidParams, NotFound
from service.domain.json_digest import json_digest
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import BlobStore, IdempotencyKey, TaskFilter, TaskQueries
from service.domain.strict_json import parse_json
from service.domain.task import Json, Status, Task
from service.domain.task_view import task_json
from service.tasks.new_task import NewTask

KNOWN = ("model", "params", "metadata", "notify")
REQUIRED = ("model", "params")
MAX_FAULTS = 100  # of each kind
NUL_ESCAPE = b"\\u0000"

UNLISTED = frozenset({"notify", "hinted_fact"})
"""Fields that no list shows; they may be large."""

THREAD_THRESHOLD = MB
"""Size from which JSON is parsed in a thread, in bytes; below it the change of thread takes longer than the parsing."""

DIGEST_THREAD_THRESHOLD = 64 * 1024
"""Size from which the digest of a JSON value is computed in a thread, in bytes: each value takes a call."""


@dataclass(kw_only=True, slots=True)
class TaskApi:
    """The endpoints under `/v1/tasks`."""

    task_service: TaskService
    queries: TaskQueries
    blobs: BlobStore
    long_poll: LongPoll
    bodies: BodyReader
    notes: WaitingNotes
    turns: PageTurns
    work: RequestWork
    clock: Clock

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
        """Accept a task: respond 202 once it is durable, 200 for the task of a known idempotency key."""
        seconds, headers = self._wanted_wait(request)
        task, created, payload = await self._accept(request)
        headers["Location"] = f"/v1/tasks/{task.id}"
        if seconds:
            [task] = await self.notes.noted([await self.long_poll.until_settled(task, seconds, request)])
        else:
            task = await self.work.tried(task)
        return json_response(task_json(task) | {"payload": payload}, status=202 if created else 200, headers=headers)

    async def show(self, request: Request) -> Response:
        """Show one task; with `wait` once it is settled or the time is up."""
        seconds, headers = self._wanted_wait(request)
        task = await self._visible(request)
        if not seconds:
            task = await self.work.tried(task, if_due=True)
        [task] = await self.notes.noted([await self.long_poll.until_settled(task, seconds, request)])
        return json_response(await task_object(task, self.blobs), headers=headers)

    async def list_tasks(self, request: Request) -> Response:
        """List tasks, newest first."""
        query = QueryParams(request, "status", "model", "limit", "cursor", "include")
        metadata = query.includes("metadata")
        wanted = TaskFilter(
            client=caller_of(request).scope,
            status=query.choice("status", [each.value for each in Status]),
            model=query.text("model"),
            without=frozenset(UNLISTED if metadata else {*UNLISTED, "metadata"}),
        )
        limit = query.integer("limit", 50, minimum=1, maximum=MAX_ROWS)
        cursor = query.cursor("task")
        query.reject_errors()

        async def read(count: int, after: str | None) -> list[Task]:
            return await self.notes.noted(await self.queries.tasks(replace(wanted, limit=count, cursor=after)))

        render = task_json if metadata else _without_metadata
        async with self.turns.turn(caller_of(request).name) as pause:
            return await page_response("task", read, render, limit=limit, cursor=cursor, pause=pause)

    async def cancel(self, request: Request) -> Response:
        """Cancel a task."""
        QueryParams(request).reject_errors()
        task = await self.work.tried(await self.task_service.cancel((await self._visible(request)).id))
        return json_response(await task_object(task, self.blobs))

    async def resubmit(self, request: Request) -> Response:
        """Create a new task from an in-doubt or failed one."""
        QueryParams(request).reject_errors()
        task = await self.work.tried(await self.task_service.resubmit((await self._visible(request)).id))
        headers = {"Location": f"/v1/tasks/{task.id}"}
        return json_response(await task_object(task, self.blobs), status=202, headers=headers)

    async def history(self, request: Request) -> Response:
        """Show the history of a task, oldest entry first."""
        query = QueryParams(request, "cursor", "include")
        cursor, metadata = query.position(), query.includes("metadata")
        query.reject_errors()
        [task] = await self.notes.noted([await self._visible(request)])
        caller, waiting = caller_of(request), waiting_entry(task, self.clock.now())
        async with self.turns.turn(caller.name) as pause:
            return await history_page(
                self.queries, task.id, caller, cursor=cursor, metadata=metadata, waiting=waiting, pause=pause
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

    async def _accept(self, request: Request) -> tuple[Task, bool, str | None]:
        """Read the body and accept its task; return the task, whether it is new, and the caller's payload.

        The bytes of the body are released when this method returns. A known task has the same payload, since the value
        of the body is the same.
        """
        require_json(request)
        key = idempotency_key(request)
        async with self.bodies.read(request) as body:
            digest = None if key is None else await _digest(body)
            nul = b"\\" in body and NUL_ESCAPE in body  # the first test is fast
            size = len(body)
            data = parse_json(body) if size <= THREAD_THRESHOLD else await run_sync(parse_json, body)
            del body
            idempotency = None if key is None or digest is None else await _idempotency(key, digest, data, size)
            new = await _new_task(data, caller=caller_of(request), idempotency=idempotency, nul=nul, size=size)
            del data
            try:
                task, created = await self.task_service.accept(new)
            except Conflict as conflict:
                problem = Problem(status=422, kind="idempotency-key-reused", detail=str(conflict))
                raise ProblemError(problem) from conflict
            request.scope["state"][TASK] = task.id
            return task, created, new.payload


def _without_metadata(task: Task) -> Json:
    found = task_json(task)
    del found["metadata"]
    return found


async def _digest(body: bytes) -> str:
    hashed = sha256(body) if len(body) <= THREAD_THRESHOLD else await run_sync(sha256, body)
    return hashed.hexdigest()


async def _idempotency(key: str, digest: str, data: object, size: int) -> IdempotencyKey:
    value_digest = json_digest(data) if size <= DIGEST_THREAD_THRESHOLD else await run_sync(json_digest, data)
    return IdempotencyKey(key=key, digest=digest, value_digest=value_digest)


async def _new_task(
    data: object, *, caller: Caller, idempotency: IdempotencyKey | None, nul: bool, size: int
) -> NewTask:
    """Return the requested task with the faults of its keys; raises InvalidParams unless `data` is an object.

    `data` is the parsed body and `size` its size in bytes. `nul` is true if it may contain the character U+0000, which
    no database stores. The task service validates the values and reports all faults together.
    """
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be a JSON object with model and params")])
    faults: list[Fault] = []
    for name in data:
        if len(faults) == MAX_FAULTS:
            break
        if name not in KNOWN:
            faults.append(unknown_key_fault((), name, KNOWN, "key"))
    for name in REQUIRED:
        if name not in data and len(faults) < MAX_FAULTS:
            faults.append(Fault(loc=(name,), msg="is required"))
    if nul:
        faults += await run_sync(_all_nul_faults, data)
    return NewTask(
        client=caller.name,
        admin=caller.admin,
        model=data.get("model"),
        params=data.get("params"),
        metadata=data.get("metadata", {}),
        notify=data.get("notify"),
        idempotency=idempotency,
        size=size,
        faults=tuple(faults),
    )


def _all_nul_faults(data: Json) -> list[Fault]:
    return list(islice(_nul_faults(data, ()), MAX_FAULTS))


def _nul_faults(value: object, loc: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(value, str) and "\0" in value:
        yield Fault(loc=loc, msg="must not contain the character U+0000")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nul_faults(inner, (*loc, index))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _nul_faults(name, loc)
            yield from _nul_faults(inner, (*loc, name.replace("\0", "?")))
