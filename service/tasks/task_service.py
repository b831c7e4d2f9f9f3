"""Accepting tasks: validated in full, stored durably, answered without waiting for the provider."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import anyio

from service.concurrency.fair_semaphore import FairSemaphore
from service.domain.blob import Blob
from service.domain.errors import Conflict, NotFound
from service.domain.media.limits import ClientInspector
from service.domain.models.media_descriptors import descriptors
from service.domain.models.validation import ValidatedParams, duration_bucket
from service.domain.notify import NO_RULES, AddressCheck, NotifyRules
from service.domain.ports.provider import Provider
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import BlobStore, IdempotencyKey, TaskIntake, TaskQueries
from service.domain.resubmission import RESUBMITTABLE, changed_params, has_ended
from service.domain.result_wait import PAID_WITHOUT_RESULT, RESULT_LEFT_OUT
from service.domain.task import Json, Status, Task, TaskId
from service.domain.task_update import RESUBMITTED_WARNING, TaskUpdate
from service.tasks.new_task import NO_OTHER_CHANGES, NewTask, OtherChanges, ValidatedTask, validate_new_task
from service.tasks.recorder import Recorder
from service.tasks.secret_sealer import SecretSealer

OWN_KEY_PREFIX = "\x1f"
"""Prefix of the service's own idempotency keys: no HTTP header can carry it, so that no client has such a key."""

ERASED_TASK = "the task was erased: what it asked for is gone; submit a new task"

VALIDATION_THREADS = 4
"""Threads that validate at once: half of them for one client, so that another one finds a free thread."""


@dataclass(frozen=True, kw_only=True)
class TaskPolicy:
    """The operator's settings for new tasks.

    `handlers` are the names that `notify` may use, and `client_handlers` those that it may use without an admin's key,
    None for all of them. `refusal` returns why an address is never dialled, or None. `rules` are those of handlers that
    declare what an entry contains. `models` are those that the provider has, None for any.
    """

    provider: str
    task_deadline: timedelta
    off_peak_deadline: timedelta
    refusal: AddressCheck
    allow_off_peak: bool = False
    allow_unchecked: bool = False
    models: Collection[str] | None = None
    handlers: frozenset[str] = frozenset()
    client_handlers: frozenset[str] | None = None
    rules: NotifyRules = NO_RULES

    def handlers_for(self, new: NewTask) -> frozenset[str]:
        """Return the names that `notify` of `new` may use."""
        if new.admin or self.client_handlers is None:
            return self.handlers
        return self.handlers & (self.client_handlers | ({new.own_handler} if new.own_handler else set()))

    def time_limit(self, params: Json) -> timedelta:
        """Return how long a task with these parameters may take, from its acceptance."""
        return self.off_peak_deadline if params.get("off_peak") is True else self.task_deadline


@dataclass(kw_only=True, slots=True, eq=False)
class TaskService:
    """Accepts tasks, cancels them, and submits them again when a client approves it."""

    intake: TaskIntake
    blobs: BlobStore
    queries: TaskQueries
    recorder: Recorder
    provider: Provider
    clock: Clock
    policy: TaskPolicy
    inspect: ClientInspector | None
    new_id: Callable[[], str]
    sealer: SecretSealer | None = None
    _threads: anyio.CapacityLimiter = field(init=False)
    _turns: FairSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self._threads = anyio.CapacityLimiter(VALIDATION_THREADS)
        self._turns = FairSemaphore(VALIDATION_THREADS)

    async def accept(self, new: NewTask) -> tuple[Task, bool]:
        """Store a new task; return it, and whether it is new (False: its idempotency key was known).

        Raises InvalidParams with every fault, Conflict for a key that was used with another body, StoreUnavailable.
        """
        valid = await self._validate(new)
        params, now, task_id = valid.params, self.clock.now(), TaskId(self.new_id())
        notify, secrets = self.sealer.seal(valid.notify, task_id) if self.sealer else (valid.notify, ())
        task = Task(
            id=task_id,
            client=new.client,
            provider=self.policy.provider,
            model=params.model,
            bucket=duration_bucket(params.model, params.params),
            params=dict(params.params),
            metadata=valid.metadata,
            notify=notify,
            warnings=params.warnings,
            created_at=now,
            due_at=now,
            deadline_at=now + self.policy.time_limit(params.params),
        )
        stored = await self.intake.add(task, _blobs(params), new.idempotency, secrets)
        return stored, stored.id == task.id

    async def resubmit_changed(
        self,
        task_id: TaskId,
        changes: Json,
        *,
        admin: bool,
        idempotency: IdempotencyKey | None,
        others: OtherChanges = NO_OTHER_CHANGES,
    ) -> tuple[Task, bool]:
        """Submit an ended task again with `changes` of its parameters (None removes one), as a new, linked task.

        Its metadata and notify entries stay, but for the `others`. Return the new task, and whether it is new: each
        call makes one, unless its idempotency key is known. Raises NotFound, InvalidParams with every fault, or
        Conflict.
        """
        old = _ended(await self.queries.task(task_id))
        blobs = await self.blobs.load(task_id)
        params = await anyio.to_thread.run_sync(changed_params, old.params, blobs, changes)
        valid = await self._validate(others.request(old, params, admin=admin))
        new_id, keep = TaskId(self.new_id()), self.sealer
        kept, kept_secrets = await keep.seal_again(old.notify, new_id) if keep else (old.notify, ())
        added, added_secrets = keep.seal(valid.notify, new_id) if keep else (valid.notify, ())
        _ended((await self.recorder.add(TaskUpdate.resubmitted(task_id))).task)
        now = self.clock.now()
        task = replace(
            _copy(old, new_id, now, now + self.policy.time_limit(valid.params.params)),
            bucket=duration_bucket(old.model, valid.params.params),
            params=dict(valid.params.params),
            metadata=valid.metadata,
            notify=(*kept, *added),
            warnings=valid.params.warnings,
        )
        secrets = (*kept_secrets, *added_secrets)
        stored = await self.intake.add(task, _blobs(valid.params), idempotency, secrets)
        return stored, stored.id == task.id

    async def _validate(self, new: NewTask) -> ValidatedTask:
        """Return `new` validated; what takes long runs in a thread, of which each client gets a share in turn."""
        validate = partial(
            validate_new_task,
            new,
            handlers=self.policy.handlers_for(new),
            refusal=self.policy.refusal,
            rules=self.policy.rules,
            allow_off_peak=self.policy.allow_off_peak,
            allow_unchecked=self.policy.allow_unchecked,
            models=self.policy.models,
            inspect=self.inspect.for_client(new.client) if self.inspect else None,
        )
        if new.validates_fast:
            return validate()
        async with self._turns.hold(1, client=new.client):
            return await anyio.to_thread.run_sync(validate, limiter=self._threads)

    async def cancel(self, task_id: TaskId, *, only_if_queued: bool = False) -> Task:
        """Cancel a queued task, or ask the provider to cancel it unless `only_if_queued`; return it.

        Raises NotFound, Conflict with the reason, or UpstreamError if the provider gave no clear answer.
        """
        result = await self.recorder.add(TaskUpdate.cancel_queued(task_id))
        task = result.task
        if task is None:
            raise NotFound("there is no such task")
        if result.events:
            return task
        if only_if_queued:
            raise Conflict(f"the task is {task.status}, no longer queued")
        if task.upstream_id is None or task.status is not Status.IN_PROGRESS:
            raise Conflict(_why_not_canceled(task))
        await self.provider.cancel(task.upstream_id)
        result = await self.recorder.add(TaskUpdate.canceled(task_id))
        return result.task or task

    async def resubmit(self, task_id: TaskId, *, first: bool = False) -> Task:
        """Submit the same again as a new, linked task: the client approves a possible second charge.

        A task is resubmitted once: a second call returns the task of the first one, with `first` it raises Conflict. A
        task in doubt is no longer submitted again automatically, even with ON_IN_DOUBT=resubmit. Raises NotFound or
        Conflict.
        """
        old = _resubmittable(await self.queries.task(task_id))
        blobs = await self.blobs.load(task_id)
        for place, _ in descriptors(old.params):
            if place not in blobs:
                raise Conflict(f"{place} is older than RETENTION and gone; submit a new task with it")
        new_id, keep = TaskId(self.new_id()), self.sealer
        notify, secrets = await keep.seal_again(old.notify, new_id) if keep else (old.notify, ())
        result = await self.recorder.add(TaskUpdate.resubmitted(task_id))
        _resubmittable(result.task)
        now = self.clock.now()
        new = replace(_copy(old, new_id, now, now + self.policy.time_limit(old.params)), notify=notify)
        key = IdempotencyKey(key=f"{OWN_KEY_PREFIX}resubmit/{old.id}", digest=old.id)
        stored = await self.intake.add(new, list(blobs.values()), key, secrets)
        if first and stored.id != new_id:
            raise Conflict(f"the task was already submitted again, as {stored.id}")
        return stored


def _ended(task: Task | None) -> Task:
    """Return a task whose request can be made again with changes."""
    if task is None:
        raise NotFound("there is no such task")
    if task.erased_at is not None:
        raise Conflict(ERASED_TASK)
    if not has_ended(task):
        raise Conflict(f"the task is {task.status}; it can be submitted again with changes once it is settled")
    return task


def _resubmittable(task: Task | None) -> Task:
    if task is None:
        raise NotFound("there is no such task")
    if task.erased_at is not None:
        raise Conflict(ERASED_TASK)
    if task.status not in RESUBMITTABLE and not task.without_result:
        allowed = ", ".join(sorted(RESUBMITTABLE))
        raise Conflict(
            f"the task is {task.status}; only {allowed} tasks, and completed ones without any result,"
            " can be submitted again"
        )
    return task


def _copy(old: Task, new_id: TaskId, now: datetime, deadline_at: datetime) -> Task:
    """Return a new task with the request of `old`, linked to it."""
    return Task(
        id=new_id,
        client=old.client,
        provider=old.provider,
        model=old.model,
        bucket=old.bucket,
        params=old.params,
        metadata=old.metadata,
        notify=old.notify,
        warnings=tuple(warning for warning in old.warnings if not _about_one_submission(warning)),
        created_at=now,
        due_at=now,
        deadline_at=deadline_at,
        resubmission_of=old.id,
    )


def _about_one_submission(warning: str) -> bool:
    return warning == RESUBMITTED_WARNING or warning.startswith((PAID_WITHOUT_RESULT, RESULT_LEFT_OUT))


def _blobs(params: ValidatedParams) -> list[Blob]:
    """Return the separately stored parts of a task: inline media, and the caller's payload and `meta_data`."""
    blobs = [*params.blobs]
    for place, text in (("payload", params.payload), ("meta_data", params.meta_data)):
        if text is not None:
            data = text.encode("utf-8", "surrogatepass")  # JSON may contain lone surrogates
            digest = hashlib.sha256(data).hexdigest()
            blobs.append(Blob(place=place, media_type="text/plain; charset=utf-8", sha256=digest, data=data))
    return blobs


def _why_not_canceled(task: Task) -> str:
    if task.settled:
        return f"the task is already {task.status}"
    if task.status is Status.EXPIRED:
        return "the task has expired; there is nothing left to cancel on our side"
    return f"the task is {task.status}: whether the upstream has taken it is not known yet; try again later"
