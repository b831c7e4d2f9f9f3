"""What the use-cases need from the outside, as small Protocols that the adapters implement."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from service.core.inputs import Input
from service.core.task import EventType, Fact, Json, Task, TaskId, UpstreamId


class Clock(Protocol):
    """Where `now` comes from."""

    def now(self) -> datetime:
        """Return this moment, aware, in UTC."""


class Signals(Protocol):
    """Hints between the parts of the service, and between its processes: never the truth, only a reason to look.

    Topics: `submit`, `reconcile`, `dispatch` (something may be due), `task:{id}` (that task changed), `events`.
    """

    def ring(self, *topics: str) -> None:
        """Wake whoever waits for any of `topics` in this process."""

    async def wait(self, topic: str, seconds: float) -> bool:
        """Return True as soon as `topic` rings, False after `seconds`."""


# ── the record ───────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class InboxEntry:
    """A raw callback as it came. Unique by `digest` (of task, submission and body); `verdict` says what we made of it.

    `nonce` is the signature's, when the provider signs: the same nonce with another digest is a forgery.
    """

    task_id: TaskId
    submission: int
    digest: str
    body: bytes = field(repr=False)
    headers: Json = field(default_factory=dict, repr=False)
    received_at: datetime
    verdict: str
    nonce: str | None = None


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """An event to be stored; `data` is the task's public face at that time (`TaskView.to_json`), plus `artifact`."""

    id: str
    task_id: TaskId
    client: str
    type: EventType
    at: datetime
    data: Json


@dataclass(frozen=True, kw_only=True)
class DeliveryRow:
    """One event for one handler. `target` is the `notify` entry that asked for it ({} for none), `lane` orders it.

    Deliveries of one `lane` (task, handler and target) are handed over one after the other, in the order of events.
    """

    id: str
    event_id: str
    task_id: TaskId
    client: str
    handler: str
    lane: str
    target: Json = field(default_factory=dict, repr=False)
    message_id: str
    due_at: datetime


class LedgerTransaction(Protocol):
    """One transaction over the record. All methods take batches, so that many facts share one commit."""

    async def lock(self, ids: Collection[TaskId]) -> dict[TaskId, Task]:
        """Return the known ones of `ids`, locked until the end of the transaction (in id order: no deadlock)."""

    async def admit(self, entries: Sequence[InboxEntry]) -> list[str]:
        """Store those entries that are new; return a word for each: `new`, `repeated`, or `nonce_reused`."""

    async def save(self, tasks: Collection[Task]) -> None:
        """Write every mutable field of `tasks`, each locked before in this transaction."""

    async def append(self, events: Sequence[EventRow], deliveries: Sequence[DeliveryRow]) -> None:
        """Store events, in this order, and what follows from them."""

    async def note_polls(self, polls: Sequence["PollRow"]) -> None:
        """Store polls for the task's history."""

    async def learn(self, samples: Sequence["RunTime"]) -> None:
        """Store run times from which polls are learned."""

    def notify(self, topics: Iterable[str]) -> None:
        """Ring `topics` in every process once the transaction is committed."""


class Ledger(Protocol):
    """Where facts are written. Leaving the block commits durably; an error inside rolls everything back."""

    def transaction(self) -> AbstractAsyncContextManager[LedgerTransaction]:
        """Begin a write transaction; raises StoreUnavailable when the database cannot take it."""


@dataclass(frozen=True, kw_only=True)
class PollRow:
    """One question to the upstream, for the task's history; `outcome` is the status it told, or what went wrong."""

    task_id: TaskId
    at: datetime
    outcome: str


@dataclass(frozen=True, kw_only=True)
class RunTime:
    """How long a task of `bucket` ran at the upstream, in seconds, and whether its callback came."""

    bucket: str
    seconds: float
    called_back: bool
    at: datetime


# ── intake and reading ───────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """A client's promise that equal keys mean one intent; `digest` is of the request's body."""

    key: str
    digest: str


class Intake(Protocol):
    """Where new tasks come in."""

    async def add(self, task: Task, inputs: Sequence[Input], idempotency: IdempotencyKey | None) -> Task:
        """Store a new task durably and return it; with a known key, the first task again.

        Raises Conflict when the key is known with another digest.
        """


class Inputs(Protocol):
    """The blobs of tasks, apart from everything else."""

    async def load(self, task_id: TaskId) -> dict[str, Input]:
        """Return every blob of the task by its place."""

    async def payload(self, task_id: TaskId) -> str | None:
        """Return the caller's own payload."""


@dataclass(frozen=True, kw_only=True)
class TaskFilter:
    """Which tasks to list: `client` None for all of them; newest first, after `cursor` (a task id)."""

    client: str | None = None
    status: str | None = None
    model: str | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeliveryView:
    """A delivery as clients see it; `fault` is `destination` or `ours` for a dead letter."""

    id: str
    task_id: TaskId
    client: str
    event_id: str
    event_type: str
    handler: str
    status: str
    attempts: int
    due_at: datetime | None
    fault: str | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


class Library(Protocol):
    """The reading side. Never touches a blob."""

    async def task(self, task_id: TaskId) -> Task | None:
        """Return one task."""

    async def tasks(self, wanted: TaskFilter) -> list[Task]:
        """Return tasks, newest first."""

    async def history(self, task_id: TaskId) -> list[Json]:
        """Return every event, callback, poll, delivery and attempt of a task, oldest first, as plain JSON."""

    async def deliveries(
        self, *, client: str | None, status: str | None, handler: str | None, limit: int, cursor: str | None
    ) -> list[DeliveryView]:
        """Return deliveries, newest first."""


# ── queues: claimed with a lease and a fence ─────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be claimed for submission: unfinished tasks at the upstream, and US dollars a UTC day."""

    max_in_flight: int | None = None
    budget: float | None = None


class TaskQueue(Protocol):
    """Tasks whose next step is due."""

    async def claim_submissions(self, *, now: datetime, until: datetime, limit: int, limits: Limits) -> list[Task]:
        """Move due queued tasks to `submitting`, durably, and return them.

        Each gets the next submission number, `submitted_at = now`, a lease `until` and a higher fence.
        """

    async def held_back(self, *, now: datetime, limits: Limits) -> str | None:
        """Return the limit that due queued tasks wait for: `max_in_flight`, `budget`, or None."""

    async def note_waiting(self, note: str, *, now: datetime) -> None:
        """Note on every due queued task why it waits; a claim takes the note off."""

    async def claim_polls(self, *, now: datetime, until: datetime, limit: int) -> list[Task]:
        """Lease due tasks of any status but queued and submitting, and queued ones that are past their deadline."""

    async def renew(self, claims: Mapping[TaskId, int], *, until: datetime) -> set[TaskId]:
        """Prolong leases (by fence); return those that are still held."""

    async def release(self, claims: Mapping[TaskId, int], *, due_at: datetime) -> None:
        """Give back leases whose fence still fits; polls are due again at `due_at`."""

    async def sweep(self, *, now: datetime) -> list[Task]:
        """Return tasks that are `submitting` with a lease that is past: abandoned, in doubt."""


@dataclass(frozen=True, kw_only=True)
class DeliveryClaim:
    """A delivery in hand: `attempt` is the one about to be made, from 1; `event` and `payload` are what it carries."""

    id: str
    fence: int
    attempt: int
    handler: str
    message_id: str
    target: Json = field(repr=False)
    event: EventRow = field(repr=False)
    payload: str | None = field(default=None, repr=False)
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """How an attempt ended: `outcome` is `delivered`, `retry` (with `due_at`) or `dead` (with `fault`)."""

    delivery_id: str
    fence: int
    attempt: int
    started_at: datetime
    finished_at: datetime
    outcome: str
    error: str | None = None
    fault: str | None = None
    due_at: datetime | None = None


class DeliveryQueue(Protocol):
    """Deliveries that are due, first in first out within a lane."""

    async def claim(self, names: Sequence[str], *, now: datetime, until: datetime, limit: int) -> list[DeliveryClaim]:
        """Lease due deliveries of the handler with these `names` (own and aliases), heads of their lanes only."""

    async def finish(self, results: Sequence[AttemptResult]) -> set[str]:
        """Store attempts and what became of their deliveries; return the ids whose fence still fitted."""

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Prolong leases; return those that are still held."""

    async def release(self, claims: Mapping[str, int]) -> None:
        """Give back leases whose fence still fits, without counting an attempt; due at once."""

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> list[str]:
        """Make dead or delivered deliveries due again, with a fresh message id and schedule; return those found."""

    async def delivery(self, delivery_id: str) -> DeliveryView | None:
        """Return one delivery."""


# ── the upstream ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked of the upstream: parameters with media in place, and our tokens."""

    model: str
    params: Json = field(repr=False)
    payload: str = field(repr=False)
    meta_data: str | None = None
    callback_url: str | None = field(default=None, repr=False)


class Upstream(Protocol):
    """One provider. Every method may raise Throttled; see each for what else."""

    name: str

    async def create(self, order: Order) -> Fact:
        """Submit; return what the reply says (possibly already settled, possibly failed without an id).

        Raises NeverLeft, Refused, ReplyLost or Throttled.
        """

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Ask for a task's state; raises UnknownTask, Unwell, Refused (our key) or Throttled."""

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Ask to cancel; raises Conflict with the provider's reason, UnknownTask, Unwell or Throttled."""

    async def find(self, correlation: str, *, since: datetime, until: datetime) -> Fact | None:
        """Look for a submission by its payload token in the provider's list; None where it is not, or there is none."""

    @property
    def lists(self) -> bool:
        """Whether the provider has a list, so that `find` means something."""


class PacedUpstream(Upstream, Protocol):
    """An upstream behind the one budget for every request to it."""

    async def create(self, order: Order, *, leaving: Callable[[], None] | None = None) -> Fact:
        """Submit; `leaving` is called when the wait is over, just before anything is sent. See `Upstream.create`."""

    @property
    def pause(self) -> timedelta:
        """How long no request will be sent from now on, because the provider asked for fewer."""

    def ready(self) -> int:
        """Return how many requests may go at this moment without waiting."""

    def room(self, size: int) -> AbstractAsyncContextManager[None]:
        """Wait until `size` more bytes of requests may be held in memory."""


# ── what the service can tell about itself ───────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """A reading for /metrics: counts by status and outcome, and the ages (seconds) of what waits longest."""

    tasks: Mapping[str, int]
    deliveries: Mapping[str, int]
    attempts: Mapping[tuple[str, str], int]
    callbacks: Mapping[str, int]
    oldest_unsettled: timedelta
    oldest_due: timedelta
    in_doubt: int


class Health(Protocol):
    """The database's own word on its state."""

    async def ready(self) -> str | None:
        """Return None when the database answers and its schema fits, else what to do about it."""

    async def gauges(self, now: datetime) -> Gauges:
        """Return the current reading."""


class Memory(Protocol):
    """What was learned, and what is to be forgotten."""

    async def run_times(self, *, per_bucket: int) -> list[RunTime]:
        """Return the newest run times of each bucket."""

    async def prune(self, *, before: datetime, now: datetime) -> int:
        """Forget raw callbacks, attempts, inputs and run times of settled tasks older than `before`; how many rows."""
