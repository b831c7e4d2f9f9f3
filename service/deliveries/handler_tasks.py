"""Submits, reads and cancels tasks for a handler, with the checks and the durability of `POST /v1/tasks`."""

import asyncio
import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from service.domain.errors import Conflict, Fault, InvalidParams, NotFound, QueueFull, Reject, Retry
from service.domain.json_digest import json_digest
from service.domain.ports.tasks import IdempotencyKey
from service.domain.submission_limits import HANDLER_CLIENT
from service.domain.task import Json, Task, TaskId
from service.domain.task_view import TaskView, task_json
from service.tasks.new_task import NewTask

MAX_REQUEST = 24 * 1024 * 1024
"""Bytes of a request as JSON, media included, as for a client."""

CLIENT_NAME = re.compile(r"[\w.@-]{1,64}")
KEY_PREFIX = "\x1fhandler/"
"""Begins the idempotency keys of handlers: no HTTP header can carry it, so that no client has such a key."""

MAX_KEY = 255
NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The character U+0000 in JSON, and not a backslash before these letters."""


class InvalidTask(Reject):
    """A task was not accepted: `faults` holds every fault, and the text has one line in plain words for each.

    A handler that does not catch it makes a dead letter of its delivery: the same request can never succeed.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(fault_text(fault) for fault in self.faults))


class QueueIsFull(Retry):
    """A task was not accepted because the client's unfinished tasks hold too many bytes; later it may be."""


class TaskService(Protocol):
    """Accepts and cancels tasks."""

    async def accept(self, new: NewTask) -> tuple[Task, bool]:
        """Store a task durably; return it, and whether it is new."""

    async def cancel(self, task_id: TaskId) -> Task:
        """Cancel a task; raises Conflict with the reason, or UpstreamError."""


class TaskReader(Protocol):
    """Reads tasks."""

    async def task(self, task_id: TaskId) -> Task | None:
        """Return one task, or None."""


class WaitingNotes(Protocol):
    """Adds what queued tasks wait for."""

    async def noted(self, tasks: Sequence[Task]) -> list[Task]:
        """Return `tasks`, the queued ones with a note that says what they wait for."""


@dataclass(frozen=True, kw_only=True)
class HandlerTasks:
    """The tasks of one handler. They belong to the client `handler:NAME`, or to the client that a call names.

    `stored` is the oldest name of the handler, so that a new name keeps its tasks.
    """

    name: str
    stored: str
    service: TaskService
    reader: TaskReader
    notes: WaitingNotes

    async def submit(
        self,
        *,
        model: str,
        params: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        notify: Sequence[Mapping[str, Any]] = (),
        idempotency_key: str | None = None,
        client: str | None = None,
    ) -> TaskView:
        """Accept a task and return it once it is stored; the same key gives the first task again.

        Raises InvalidTask with every fault, QueueIsFull, StoreUnavailable.
        """
        request: Json = {
            "model": model,
            "params": dict(params),
            "metadata": dict(metadata or {}),
            "notify": [dict(entry) for entry in notify],
        }
        request, size = await asyncio.to_thread(_as_json, request)
        key = await asyncio.to_thread(_idempotency, self.stored, idempotency_key, request)
        new = NewTask(client=self._client(client), idempotency=key, size=size, own_handler=self.name, **request)
        try:
            task, _ = await self.service.accept(new)
        except InvalidParams as invalid:
            raise InvalidTask(invalid.faults) from invalid
        except Conflict as conflict:
            raise InvalidTask([Fault(loc=("idempotency_key",), msg=str(conflict))]) from conflict
        except QueueFull as full:
            raise QueueIsFull(str(full), after=30) from full
        return _view(task)

    async def task(self, task_id: str, *, client: str | None = None) -> TaskView | None:
        """Return a task of this handler, None for an unknown one and for another client's."""
        task = await self.reader.task(TaskId(task_id))
        if task is None or task.client != self._client(client):
            return None
        [noted] = await self.notes.noted([task])
        return _view(noted)

    async def cancel(self, task_id: str, *, client: str | None = None) -> TaskView:
        """Cancel a task of this handler; raises NotFound, Conflict with the reason, or UpstreamError."""
        task = await self.reader.task(TaskId(task_id))
        if task is None or task.client != self._client(client):
            raise NotFound("there is no such task")
        return _view(await self.service.cancel(task.id))

    def _client(self, client: str | None) -> str:
        own = f"{HANDLER_CLIENT}{self.stored}"
        if client is None or client == own:  # an event of its own task names it
            return own
        if not CLIENT_NAME.fullmatch(client):
            raise ValueError("a client must be 1 to 64 letters, digits and . _ @ -, as in BOOMERANG_API_KEYS")
        return client


def data_uri(data: bytes, media_type: str) -> str:
    """Return `data` as a data URI for `params`: media from a chat goes up as bytes, never as a secret address."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def fault_text(fault: Fault) -> str:
    """Return a fault in one line for people: `prompt: must be ...`."""
    place = ".".join(str(part) for part in fault.loc if part != "params")
    return f"{place}: {fault.msg}" if place else fault.msg


def _view(task: Task) -> TaskView:
    return TaskView.from_json(task_json(task))


def _as_json(request: Json) -> tuple[Json, int]:
    """Return the request as JSON reads it, and its size in bytes.

    Raises InvalidTask for one that is no JSON, too large, or that no database stores.
    """
    try:
        text = json.dumps(request, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: a lone surrogate too
        raise InvalidTask([Fault(loc=(), msg=f"the request must be plain JSON: {type(error).__name__}")]) from None
    if size > MAX_REQUEST:
        raise InvalidTask([Fault(loc=(), msg=f"the request is {size:,} bytes; at most {MAX_REQUEST:,} are allowed")])
    if "\\u0000" in text and NUL_ESCAPE.search(text):
        raise InvalidTask([Fault(loc=(), msg="the request must not contain the character U+0000")])
    found: Json = json.loads(text)
    return found, size


def _idempotency(handler: str, key: str | None, request: Json) -> IdempotencyKey | None:
    if key is None:
        return None
    if not (1 <= len(key) <= MAX_KEY and key.isprintable()):
        raise ValueError(f"an idempotency key must be 1 to {MAX_KEY} printable characters")
    digest = json_digest(request)
    body = sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return IdempotencyKey(key=f"{KEY_PREFIX}{handler}/{key}", digest=body, value_digest=digest)
