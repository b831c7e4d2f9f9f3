"""The record: one transaction over inbox, tasks, events and deliveries."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.domain.fair_share import share_owner
from service.domain.task import EventType, Json, Task, TaskId, UpstreamId


@dataclass(frozen=True, kw_only=True)
class InboxEntry:
    """A raw callback as it came. Unique by `digest` (of task, submission and body); `verdict` says what we made of it.

    It is `unread` until what follows from it is recorded.
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
    One that is to be born in hand is `leased_until` a moment by whoever writes it.
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
    leased_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class DeliveryClaim:
    """A delivery in hand: `attempt` is the one about to be made, from 1; `event` and `payload` are what it carries.

    An `abandoned` one is in hand for its books only: `attempt` was begun by another claim, whose lease ran out, so that
    nobody will ever tell how it ended.
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

    @property
    def share_owner(self) -> str | None:
        """The client whose share of the places this takes from; None where no request named a target."""
        return share_owner(self.event.client, self.target)


class Inbox(Protocol):
    """Where callbacks are kept until they are recorded, when they come faster than that."""

    async def store_unread(self, entries: Sequence[InboxEntry]) -> set[str]:
        """Store durably those that are new, as `unread`; return the digests whose nonce another callback has used."""

    async def unread_since(self) -> datetime | None:
        """Return when the oldest unread callback came, None when every one is recorded."""


class UnitOfWork(Protocol):
    """One transaction over the record. All methods take batches, so that many facts share one commit."""

    async def lock(self, ids: Collection[TaskId]) -> dict[TaskId, Task]:
        """Return the known ones of `ids`, locked until the end of the transaction (in id order: no deadlock)."""

    async def admit(self, entries: Sequence[InboxEntry]) -> list[str]:
        """Store those entries that are new; return a word for each: `new`, `repeated`, or `nonce_reused`."""

    async def unread(self, limit: int) -> list[InboxEntry]:
        """Return up to `limit` unread callbacks, oldest first, that no other transaction has; of large ones few."""

    async def with_unread_callbacks(self, ids: Collection[TaskId]) -> set[TaskId]:
        """Return those of `ids` about which an unread callback is kept."""

    async def read(self, entries: Sequence[InboxEntry]) -> None:
        """Give unread callbacks the verdict that each of `entries` has."""

    async def holders(self, ids: Collection[UpstreamId]) -> dict[UpstreamId, TaskId]:
        """Return which task is known to the upstream by each of `ids`, where one is."""

    async def save(self, moved: Collection[Task]) -> None:
        """Write every mutable field of `moved`, each locked before in this transaction."""

    async def append(self, events: Sequence[EventRow], deliveries: Sequence[DeliveryRow]) -> list[DeliveryClaim]:
        """Store events, in this order, and what follows from them; return what is born in hand.

        That are the deliveries with a lease; not those that have to wait for an earlier one of their lane.
        """

    async def add_polls(self, asked: Sequence["PollRow"]) -> None:
        """Store polls for the task's history."""

    async def add_run_times(self, samples: Sequence["RunTime"]) -> None:
        """Store run times from which polls are learned."""

    def notify(self, topics: Iterable[str]) -> None:
        """Ring `topics` in every process once the transaction is committed."""


class UnitOfWorkFactory(Protocol):
    """Where facts are written. Leaving the block commits durably; an error inside rolls everything back."""

    def transaction(self) -> AbstractAsyncContextManager[UnitOfWork]:
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
