"""Accepting tasks: validated in full, stored durably, answered without waiting for the provider."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter

import anyio

from service.domain.blob import Blob
from service.domain.errors import Conflict, Fault, InvalidParams, NotFound
from service.domain.media.limits import Inspector
from service.domain.models.media_checks import MAX_ITEMS_CHECKED
from service.domain.models.validation import ValidatedParams, duration_bucket, validate_params
from service.domain.notify import WEBHOOK, AddressCheck, validate_notify
from service.domain.ports.provider import Provider
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import BlobStore, IdempotencyKey, TaskIntake, TaskQueries
from service.domain.task import Json, Status, Task, TaskId
from service.domain.task_update import RESUBMITTED_WARNING, TaskUpdate
from service.tasks.recorder import Recorder

OWN_KEY_PREFIX = "\x1f"
"""Prefix of the service's own idempotency keys: no HTTP header can carry it, so that no client has such a key."""

RESUBMITTABLE = frozenset({Status.IN_DOUBT, Status.FAILED, Status.EXPIRED, Status.CANCELED})

VALIDATION_THREADS = 2
"""Threads that validate at once; more only wait for each other."""


NO_WEBHOOK = "needs the webhook handler, which is not loaded here; leave it out, or add webhook to BOOMERANG_HANDLERS"

MAX_METADATA = 64 * 1024
"""Bytes of JSON: the metadata is copied into every event, list and webhook of the task."""

MAX_FAST_VALIDATION = 256 * 1024
"""Bytes of a request without inline media up to which it is validated in the event loop: a thread takes longer."""


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A request for a task as it came: everything except `client` and `idempotency` has to be validated.

    `size` is that of the whole request in bytes, None if unknown. `faults` were found before.
    """

    client: str
    model: object
    params: object = field(repr=False)
    metadata: object = field(default_factory=dict)
    notify: object = field(default=None, repr=False)
    idempotency: IdempotencyKey | None = None
    size: int | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def payload(self) -> str | None:
        """The caller's own payload, None if there is none."""
        payload = self.params.get("payload") if isinstance(self.params, dict) else None
        return payload if isinstance(payload, str) else None

    @property
    def validates_fast(self) -> bool:
        """Whether validation takes a negligible time: a small request without inline media."""
        if self.size is None or self.size > MAX_FAST_VALIDATION:
            return False
        for value in self.params.values() if isinstance(self.params, dict) else ():
            for item in value[:MAX_ITEMS_CHECKED] if isinstance(value, list) else ():
                if isinstance(item, str) and item[:5].lower() == "data:":
                    return False
        return True


@dataclass(frozen=True, kw_only=True)
class ValidatedTask:
    """A request within every limit; the last entry of `notify` is the caller's own `callback_url`."""

    params: ValidatedParams
    metadata: Json
    notify: tuple[Json, ...] = field(repr=False)


def validate_new_task(
    new: NewTask,
    *,
    handlers: Collection[str],
    refusal: AddressCheck,
    allow_off_peak: bool = False,
    inspect: Inspector | None = None,
) -> ValidatedTask:
    """Return `new` validated, or raise InvalidParams with every fault, those of `new.faults` first.

    `handlers` are the names that `notify` may use. `refusal` returns why an address is never dialled, or None.
    `inspect` and `allow_off_peak` are those of `validate_params`.
    """
    faults = [*new.faults]
    params: ValidatedParams | None = None
    if {("model",), ("params",)}.isdisjoint(map(attrgetter("loc"), faults)):  # else their faults are known
        try:
            params = validate_params(new.model, new.params, inspect=inspect, allow_off_peak=allow_off_peak)
        except InvalidParams as invalid:
            faults += invalid.faults
    notify: tuple[Json, ...] = ()
    if new.notify is not None:
        try:
            notify = validate_notify(new.notify, handlers, refusal)
        except InvalidParams as invalid:
            faults += invalid.faults
    callback_url = params.callback_url if params else None
    if callback_url and (reason := refusal(callback_url) if WEBHOOK in handlers else NO_WEBHOOK):
        faults.append(Fault(loc=("params", "callback_url"), msg=reason))
    faults += _metadata_faults(new.metadata)
    if params is None or not isinstance(new.metadata, dict) or faults:
        raise InvalidParams(faults)
    forward = ({"handler": WEBHOOK, "url": callback_url},) if callback_url else ()
    return ValidatedTask(params=params, metadata=new.metadata, notify=(*notify, *forward))


def _metadata_faults(value: object) -> list[Fault]:
    if not isinstance(value, dict):
        return [Fault(loc=("metadata",), msg="must be a JSON object; leave it out for none")]
    size = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size <= MAX_METADATA:
        return []
    message = f"must be at most {MAX_METADATA:,} bytes of JSON, is {size:,}: large texts go into params.payload"
    return [Fault(loc=("metadata",), msg=message)]


@dataclass(frozen=True, kw_only=True)
class TaskPolicy:
    """The operator's settings for new tasks.

    `handlers` are the names that `notify` may use. `refusal` returns why an address is never dialled, or None.
    """

    provider: str
    task_deadline: timedelta
    off_peak_deadline: timedelta
    refusal: AddressCheck
    allow_off_peak: bool = False
    handlers: frozenset[str] = frozenset()

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
    inspect: Inspector | None
    new_id: Callable[[], str]
    _threads: anyio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        self._threads = anyio.CapacityLimiter(VALIDATION_THREADS)

    async def accept(self, new: NewTask) -> tuple[Task, bool]:
        """Store a new task; return it, and whether it is new (False: its idempotency key was known).

        Raises InvalidParams with every fault, Conflict for a key that came with another body, StoreUnavailable.
        """
        validate = partial(
            validate_new_task,
            new,
            handlers=self.policy.handlers,
            refusal=self.policy.refusal,
            allow_off_peak=self.policy.allow_off_peak,
            inspect=self.inspect,
        )
        valid = validate() if new.validates_fast else await anyio.to_thread.run_sync(validate, limiter=self._threads)
        params, now = valid.params, self.clock.now()
        task = Task(
            id=TaskId(self.new_id()),
            client=new.client,
            provider=self.policy.provider,
            model=params.model,
            bucket=duration_bucket(params.model, params.params),
            params=dict(params.params),
            metadata=valid.metadata,
            notify=valid.notify,
            warnings=params.warnings,
            created_at=now,
            due_at=now,
            deadline_at=now + self.policy.time_limit(params.params),
        )
        stored = await self.intake.add(task, _blobs(params), new.idempotency)
        return stored, stored.id == task.id

    async def cancel(self, task_id: TaskId) -> Task:
        """Cancel a queued task, or ask the provider to cancel it; return it.

        Raises NotFound, Conflict with the reason, or UpstreamError if the provider gave no clear answer.
        """
        result = await self.recorder.add(TaskUpdate.cancel_queued(task_id))
        task = result.task
        if task is None:
            raise NotFound("there is no such task")
        if result.events:
            return task
        if task.upstream_id is None or task.status is not Status.IN_PROGRESS:
            raise Conflict(_why_not_canceled(task))
        await self.provider.cancel(task.upstream_id)
        result = await self.recorder.add(TaskUpdate.canceled(task_id))
        return result.task or task

    async def resubmit(self, task_id: TaskId) -> Task:
        """Submit the same again as a new, linked task: the client approves a possible second charge.

        A task is resubmitted once: a second call returns the task of the first one. A task in doubt is no longer
        submitted again automatically, whatever ON_IN_DOUBT says. Raises NotFound or Conflict.
        """
        old = _resubmittable(await self.queries.task(task_id))
        blobs = await self.blobs.load(task_id)
        for name, value in old.params.items():
            for index, item in enumerate(value if isinstance(value, list) else ()):
                place = f"{name}.{index}"
                if isinstance(item, dict) and "sha256" in item and place not in blobs:
                    raise Conflict(f"{place} is older than RETENTION and gone; submit a new task with it")
        result = await self.recorder.add(TaskUpdate.resubmitted(task_id))
        _resubmittable(result.task)
        now = self.clock.now()
        new = _copy(old, TaskId(self.new_id()), now, now + self.policy.time_limit(old.params))
        key = IdempotencyKey(key=f"{OWN_KEY_PREFIX}resubmit/{old.id}", digest=old.id)
        return await self.intake.add(new, list(blobs.values()), key)


def _resubmittable(task: Task | None) -> Task:
    if task is None:
        raise NotFound("there is no such task")
    if task.status not in RESUBMITTABLE:
        allowed = ", ".join(sorted(RESUBMITTABLE))
        raise Conflict(f"the task is {task.status}; only {allowed} tasks can be submitted again")
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
        warnings=tuple(warning for warning in old.warnings if warning != RESUBMITTED_WARNING),
        created_at=now,
        due_at=now,
        deadline_at=deadline_at,
        resubmission_of=old.id,
    )


def _blobs(params: ValidatedParams) -> list[Blob]:
    """Return what is stored apart from the task: its inline media, and the caller's payload and `meta_data`."""
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
