"""One transaction over inbox, tasks, events and deliveries."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from service.domain.endpoint import EndpointMatch
from service.domain.fair_share import share_owner
from service.domain.task import EventType, Json, Task, TaskId, UpstreamId
from service.domain.task_wait import WaitRow


@dataclass(frozen=True, kw_only=True)
class InboxEntry:
    """A raw callback as received, unique by `digest` (of task, submission and body).

    `verdict` is the result of reading it, `unread` until it is recorded. `nonce` is that of the signature, if the
    provider signs: the same nonce with another digest is a forgery.
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
    """An event; `data` is the public view of the task at that time (`TaskView.to_json`), plus `artifact`."""

    id: str
    task_id: TaskId
    client: str
    type: EventType
    at: datetime
    data: Json


@dataclass(frozen=True, kw_only=True)
class DeliveryRow:
    """One event for one handler. `target` is the `notify` entry that requested it, {} for none.

    Deliveries of one `lane` (task, handler and target) run one after the other, in the order of events. `leased_until`
    is set if the process that inserts it also claims it. Of deliveries with the same `destination` (task, handler and
    host of the target), only one is leased at a time; None for a target without an address. `endpoint_id` is set for a
    delivery to an endpoint; while that is paused, `due_at` is None.
    """

    id: str
    event_id: str
    task_id: TaskId
    client: str
    handler: str
    lane: str
    target: Json = field(default_factory=dict, repr=False)
    message_id: str
    due_at: datetime | None
    leased_until: datetime | None = None
    destination: str | None = None
    endpoint_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeliveryClaim:
    """A claimed delivery: `attempt` is the number of the next attempt, from 1; `event` and `payload` are its content.

    An `abandoned` one is claimed only to record its attempt, which began under another lease that expired: its result
    is not known. A person started a `manual` attempt: it is made although its host fails now. The target of a delivery
    to an endpoint, which has `endpoint_id`, is complete only once the attempt has read the endpoint. A `probe` tries
    whether a destination works again whose circuit is open; `waiting_since` is when it began to wait for one.
    """

    id: str
    fence: int
    attempt: int
    handler: str
    message_id: str
    target: Json = field(repr=False)
    event: EventRow = field(repr=False)
    payload: str | None = field(default=None, repr=False)
    created_at: datetime
    abandoned: bool = False
    manual: bool = False
    endpoint_id: str | None = None
    probe: bool = False
    waiting_since: datetime | None = None

    @property
    def share_owner(self) -> str | None:
        """The client whose share of slots this takes; None if no request named a target."""
        return share_owner(self.event.client, self.target)


NewClaims = Callable[[], Sequence[DeliveryClaim]]
"""Returns the claims on the deliveries that a transaction has leased while it inserted them; known after its commit."""


def no_claims() -> Sequence[DeliveryClaim]:
    """Return no claims."""
    return ()


class InboxUsage(NamedTuple):
    """How many callbacks of a task are stored, and how many bytes their bodies have."""

    callbacks: int
    size: int


UNUSED = InboxUsage(0, 0)


KnownEntries = Callable[[str], InboxEntry | None]
"""Returns the callback with a digest, if it is in memory."""


def unknown(digest: str) -> InboxEntry | None:  # noqa: ARG001 - as in KnownEntries
    """Return None: no callback is in memory."""
    return None


class Inbox(Protocol):
    """Callbacks of a burst, stored until they are recorded."""

    async def usage(self, ids: Collection[TaskId]) -> dict[TaskId, InboxUsage]:
        """Return what is stored of those tasks that have callbacks."""

    async def store_unread(self, entries: Sequence[InboxEntry]) -> set[str]:
        """Store new ones durably as `unread`; return the digests whose nonce another callback has used.

        Callbacks of final tasks, which no callback changes, are not stored.
        """

    async def unread_since(self) -> datetime | None:
        """Return when the oldest unread callback arrived, None if all are recorded."""


class UnitOfWork(Protocol):
    """One transaction. All methods take batches, so that many updates share one commit."""

    async def lock(self, ids: Collection[TaskId]) -> dict[TaskId, Task]:
        """Return the known ones of `ids`, locked until the end of the transaction (in id order: no deadlock)."""

    async def receive(
        self, ids: Collection[TaskId], entries: Sequence[InboxEntry]
    ) -> tuple[dict[TaskId, Task], list[str]]:
        """Lock tasks as `lock` does, and store the new ones of `entries`, which are of these tasks.

        Return for each of `entries` `new`, `repeated`, `nonce_reused`, or `settled`: the callback of a final task is
        not stored, as it is a repeat or changes nothing.
        """

    async def unread(self, limit: int, known: KnownEntries = unknown, *, now: datetime) -> list[InboxEntry]:
        """Return up to `limit` unread callbacks, oldest first, that no other transaction locks; of large ones few.

        `known` returns those that this process has stored itself and still holds: they are not read again.
        """

    async def with_unread_callbacks(self, ids: Collection[TaskId]) -> set[TaskId]:
        """Return those of `ids` that have unread callbacks."""

    async def read(self, entries: Sequence[InboxEntry]) -> None:
        """Store the verdicts of `entries`, which were unread."""

    async def holders(self, ids: Collection[UpstreamId]) -> dict[UpstreamId, TaskId]:
        """Return the tasks that have these provider ids, by id."""

    async def save(self, moved: Collection[Task]) -> None:
        """Write every mutable field of `moved`, which this transaction has locked."""

    async def endpoints_of(self, clients: Set[str]) -> list[EndpointMatch]:
        """Return the enabled endpoints of these clients."""

    async def append(self, events: Sequence[EventRow], deliveries: Sequence[DeliveryRow]) -> NewClaims:
        """Store events, in this order, and their deliveries; return what has the claims on those with a lease.

        Deliveries that wait for an earlier one of their lane get no lease.
        """

    async def add_polls(self, rows: Sequence["PollRow"]) -> None:
        """Store polls for the task's history."""

    async def add_task_waits(self, rows: Sequence[WaitRow]) -> None:
        """Add what tasks waited for, one row at most for each task and reason."""

    async def watch(self, until: Mapping[TaskId, datetime]) -> None:
        """Note that somebody watches the progress of these tasks, each until its time."""

    async def add_run_times(self, samples: Sequence["RunTime"]) -> None:
        """Store run times, on which the estimates are based."""

    def notify(self, topics: Iterable[str]) -> None:
        """Notify `topics` in every process after the commit."""


class UnitOfWorkFactory(Protocol):
    """Begins transactions. Leaving the block commits durably; an error inside rolls everything back."""

    def transaction(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin a write transaction; raises StoreUnavailable if the database cannot take it."""


@dataclass(frozen=True, kw_only=True)
class PollRow:
    """One poll, for the task's history; `outcome` is the reported status or the error."""

    task_id: TaskId
    at: datetime
    outcome: str


@dataclass(frozen=True, kw_only=True)
class RunTime:
    """The run time of a task of `bucket` at the provider, in seconds, and whether its callback arrived."""

    bucket: str
    seconds: float
    called_back: bool
    at: datetime
