"""Where clients' tasks come in: checked in full, stored durably, answered without waiting for the upstream."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import anyio

from service.domain.blob import Blob
from service.domain.errors import Conflict, NotFound
from service.domain.media.limits import Inspector
from service.domain.models.validation import ValidatedParams, duration_bucket
from service.domain.notify import WhyNotDialled
from service.domain.ports.provider import Provider
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import BlobStore, IdempotencyKey, TaskIntake, TaskQueries
from service.domain.task import Fact, Json, Status, Task, TaskId
from service.domain.task_update import RESUBMITTED_WARNING, TaskUpdate
from service.tasks.new_task import NewTask, ValidatedTask, validate_new_task
from service.tasks.recorder import Recorder

NO_CLIENTS = "\x1f"
"""Begins the idempotency keys of our own: no header can carry it, so that no client ever writes one of them."""

RESUBMITTABLE = frozenset({Status.IN_DOUBT, Status.FAILED, Status.EXPIRED, Status.CANCELED})


@dataclass(frozen=True, kw_only=True)
class TaskPolicy:
    """The operator's terms for new tasks.

    `handlers` are the names that `notify` may ask for; `refusal` says which addresses are never dialled.
    """

    provider: str
    task_deadline: timedelta
    off_peak_deadline: timedelta
    refusal: WhyNotDialled
    allow_off_peak: bool = False
    handlers: frozenset[str] = frozenset()


class TaskService:
    """Takes tasks in, cancels them, and submits them again on a person's word."""

    def __init__(
        self,
        *,
        intake: TaskIntake,
        blobs: BlobStore,
        queries: TaskQueries,
        recorder: Recorder,
        upstream: Provider,
        clock: Clock,
        terms: TaskPolicy,
        inspect: Inspector | None,
        new_id: Callable[[], str],
    ) -> None:
        self._intake = intake
        self._blobs = blobs
        self._queries = queries
        self._recorder = recorder
        self._provider = upstream
        self._clock = clock
        self._terms = terms
        self._inspect = inspect
        self._new_id = new_id
        self._checking = anyio.CapacityLimiter(2)  # more at once would only wait for each other

    async def accept(self, new: NewTask) -> tuple[Task, bool]:
        """Store a new task; return it, and whether it was made now (False: its idempotency key was known).

        Raises InvalidParams with every fault, Conflict for a key that came with another body, StoreUnavailable.
        """
        asked = await self._check(new)
        checked = asked.params
        now = self._clock.now()
        task = Task(
            id=TaskId(self._new_id()),
            client=new.client,
            provider=self._terms.provider,
            model=checked.model,
            bucket=duration_bucket(checked.model, checked.params),
            params=dict(checked.params),
            metadata=asked.metadata,
            notify=asked.notify,
            warnings=checked.warnings,
            created_at=now,
            due_at=now,
            deadline_at=now + self._allowed(checked.params),
        )
        kept = await self._intake.add(task, _blobs(checked), new.idempotency)
        return kept, kept.id == task.id

    async def _check(self, new: NewTask) -> ValidatedTask:
        check = partial(
            validate_new_task,
            new,
            handlers=self._terms.handlers,
            refusal=self._terms.refusal,
            allow_off_peak=self._terms.allow_off_peak,
            inspect=self._inspect,
        )
        return check() if new.validates_fast else await anyio.to_thread.run_sync(check, limiter=self._checking)

    def _allowed(self, params: Json) -> timedelta:
        """Return how long a task with these parameters may take, from its first moment."""
        off_peak = params.get("off_peak") is True
        return self._terms.off_peak_deadline if off_peak else self._terms.task_deadline

    async def cancel(self, task_id: TaskId) -> Task:
        """Cancel a task that is still ours, or ask the upstream to; return it.

        Raises NotFound, Conflict with the reason, or UpstreamError when the upstream gave no clear answer.
        """
        canceled = Fact(status=Status.CANCELED)
        recorded = await self._recorder.add(TaskUpdate(task_id=task_id, fact=canceled, only_if=Status.QUEUED))
        task = recorded.task
        if task is None:
            raise NotFound("there is no such task")
        if recorded.events:
            return task
        if task.upstream_id is None or task.status is not Status.IN_PROGRESS:
            raise Conflict(_why_not_canceled(task))
        await self._provider.cancel(task.upstream_id)
        recorded = await self._recorder.add(TaskUpdate(task_id=task_id, fact=canceled))
        return recorded.task or task

    async def resubmit(self, task_id: TaskId) -> Task:
        """Submit the same again as a new, linked task: a person accepts a possible second bill.

        The same task is resubmitted once: a second call returns the first one's task. An old one in doubt is not
        submitted again by itself any more, whatever ON_IN_DOUBT says. Raises NotFound or Conflict.
        """
        old = _resubmittable(await self._queries.task(task_id))
        blobs = await self._blobs.load(task_id)
        if missing := _missing(old.params, blobs):
            raise Conflict(f"{missing} is older than RETENTION and gone; submit a new task with it")
        marked = await self._recorder.add(
            TaskUpdate(task_id=task_id, warning=RESUBMITTED_WARNING, only_if=Status.IN_DOUBT)
        )
        _resubmittable(marked.task)
        now = self._clock.now()
        new = _copy(old, TaskId(self._new_id()), now, now + self._allowed(old.params))
        once = IdempotencyKey(key=f"{NO_CLIENTS}resubmit/{old.id}", digest=old.id)
        return await self._intake.add(new, list(blobs.values()), once)


def _resubmittable(task: Task | None) -> Task:
    if task is None:
        raise NotFound("there is no such task")
    if task.status not in RESUBMITTABLE:
        allowed = ", ".join(sorted(RESUBMITTABLE))
        raise Conflict(f"the task is {task.status}; only {allowed} tasks can be submitted again")
    return task


def _copy(old: Task, new_id: TaskId, now: datetime, deadline_at: datetime) -> Task:
    """Return a new task that asks for the same as `old`, and is linked to it."""
    return Task(
        id=new_id,
        client=old.client,
        provider=old.provider,
        model=old.model,
        bucket=old.bucket,
        params=old.params,
        metadata=old.metadata,
        notify=old.notify,
        warnings=tuple(warning for warning in old.warnings if warning != RESUBMITTED_WARNING),
        created_at=now,
        due_at=now,
        deadline_at=deadline_at,
        resubmission_of=old.id,
    )


def _blobs(checked: ValidatedParams) -> list[Blob]:
    texts = {"payload": checked.payload, "meta_data": checked.meta_data}
    return [*checked.blobs, *(_text_input(place, text) for place, text in texts.items() if text is not None)]


def _text_input(place: str, text: str) -> Blob:
    data = text.encode("utf-8", "surrogatepass")  # JSON may hold lone surrogates
    return Blob(place=place, media_type="text/plain; charset=utf-8", sha256=hashlib.sha256(data).hexdigest(), data=data)


def _missing(params: Json, blobs: dict[str, Blob]) -> str | None:
    return next((place for place in _places(params) if place not in blobs), None)


def _places(params: Json) -> Iterator[str]:
    """Name where inline media stand: a descriptor in place of the data URI."""
    for name, value in params.items():
        for index, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(item, dict) and "sha256" in item:
                yield f"{name}.{index}"


def _why_not_canceled(task: Task) -> str:
    if task.settled:
        return f"the task is already {task.status}"
    if task.status is Status.EXPIRED:
        return "the task has expired; there is nothing left to cancel on our side"
    return f"the task is {task.status}: whether the upstream has taken it is not known yet; try again later"
