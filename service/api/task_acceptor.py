"""Accepts tasks from request bodies, for every API that creates tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from anyio.to_thread import run_sync
from starlette.requests import Request

from service.api.authentication import Caller, caller_of
from service.api.nul_characters import MAX_FAULTS, may_have_nul, nul_faults
from service.api.ports import TaskService
from service.api.problems import Problem, ProblemError
from service.api.query_params import idempotency_key, unknown_key_fault
from service.api.request_bodies import MB, BodyReader, require_json
from service.api.request_context import TASK
from service.domain.errors import Conflict, Fault, InvalidParams
from service.domain.json_digest import json_digest
from service.domain.ports.tasks import IdempotencyKey
from service.domain.strict_json import parse_json
from service.domain.task import Task
from service.tasks.new_task import NewTask

KNOWN = ("model", "params", "metadata", "notify")
REQUIRED = ("model", "params")

THREAD_THRESHOLD = MB
"""Size from which JSON is parsed in a thread, in bytes; below it the change of thread takes longer than the parsing."""

DIGEST_THREAD_THRESHOLD = 64 * 1024
"""Size from which the digest of a JSON value is computed in a thread, in bytes: each value takes a call."""

Translation = Callable[[object], object]
"""Returns the body of `POST /v1/tasks` that means the same as a body of another API; raises InvalidParams."""


def untranslated(data: object) -> object:
    """Return `data`: the body is one of `POST /v1/tasks`."""
    return data


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """An accepted task, whether it is new (False for a known idempotency key), and the caller's payload."""

    task: Task
    created: bool
    payload: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskAcceptor:
    """Reads bodies within the limits of tasks and accepts their tasks."""

    task_service: TaskService
    bodies: BodyReader

    async def from_json(
        self, request: Request, *, translate: Translation = untranslated, callback_form: str | None = None
    ) -> Accepted:
        """Read a JSON body and accept its task; `callback_form` is that of what its `callback_url` gets.

        The bytes of the body are released when this method returns. A known task has the same payload, since the value
        of the body is the same.
        """
        require_json(request)
        key = idempotency_key(request)
        async with self.bodies.read(request) as body:
            digest = None if key is None else await _digest(body)
            nul = may_have_nul(body)
            size = len(body)
            data = parse_json(body) if size <= THREAD_THRESHOLD else await run_sync(parse_json, body)
            del body
            idempotency = None if key is None or digest is None else await _idempotency(key, digest, data, size)
            data = translate(data)
            new = await new_task(
                data,
                caller=caller_of(request),
                idempotency=idempotency,
                nul=nul,
                size=size,
                callback_form=callback_form,
            )
            del data
            return await self.accept(request, new)

    async def accept(self, request: Request, new: NewTask) -> Accepted:
        """Accept `new` as the task of `request`; raises a 422 problem for an idempotency key with another body."""
        try:
            task, created = await self.task_service.accept(new)
        except Conflict as conflict:
            problem = Problem(status=422, kind="idempotency-key-reused", detail=str(conflict))
            raise ProblemError(problem) from conflict
        request.scope["state"][TASK] = task.id
        return Accepted(task=task, created=created, payload=new.payload)


async def _digest(body: bytes) -> str:
    hashed = sha256(body) if len(body) <= THREAD_THRESHOLD else await run_sync(sha256, body)
    return hashed.hexdigest()


async def _idempotency(key: str, digest: str, data: object, size: int) -> IdempotencyKey:
    value_digest = json_digest(data) if size <= DIGEST_THREAD_THRESHOLD else await run_sync(json_digest, data)
    return IdempotencyKey(key=key, digest=digest, value_digest=value_digest)


async def new_task(
    data: object,
    *,
    caller: Caller,
    idempotency: IdempotencyKey | None,
    nul: bool,
    size: int,
    callback_form: str | None = None,
    known_faults: Sequence[Fault] = (),
) -> NewTask:
    """Return the requested task with the faults of its keys; raises InvalidParams unless `data` is an object.

    `data` is the parsed body and `size` its size in bytes. `nul` is true if it may contain the character U+0000, which
    no database stores. The task service validates the values and reports all faults together.
    """
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be a JSON object with model and params")])
    faults = [*known_faults]
    for name in data:
        if len(faults) == MAX_FAULTS:
            break
        if name not in KNOWN:
            faults.append(unknown_key_fault((), name, KNOWN, "key"))
    for name in REQUIRED:
        if name not in data and len(faults) < MAX_FAULTS:
            faults.append(Fault(loc=(name,), msg="is required"))
    if nul:
        faults += await run_sync(nul_faults, data)
    return NewTask(
        client=caller.name,
        admin=caller.admin,
        model=data.get("model"),
        params=data.get("params"),
        metadata=data.get("metadata", {}),
        notify=data.get("notify"),
        idempotency=idempotency,
        size=size,
        callback_form=callback_form,
        faults=tuple(faults),
    )
