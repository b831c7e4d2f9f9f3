"""Storage of new tasks and their blobs, and read queries."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.blob import Blob
from service.domain.history_position import HistoryEntry, HistoryPosition
from service.domain.ports.deliveries import DeliverySelection, DeliveryWindow
from service.domain.ports.search import StatusCount, TaskWindow
from service.domain.sealed_targets import Resealed, SealedSecret
from service.domain.search import NO_TERMS, SearchTerms
from service.domain.task import Json, Task, TaskId


@dataclass(frozen=True, kw_only=True)
class RepeatedRequest:
    """How equal requests of a client find each other without a common key, whichever process has got each of them.

    The keys of all of them begin with `prefix`; `repeats` is whether the client says that it repeats an earlier one.
    Only tasks that were accepted at `since` or later are looked for.
    """

    prefix: str
    since: datetime
    repeats: bool

    @property
    def repeat_prefix(self) -> str:
        """Return the beginning of the keys of those that repeat one."""
        return f"{self.prefix}repeat/"


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """A client's idempotency key with the digests of its request.

    `digest` is that of the body's bytes; the previous release stores and compares this one alone. `value_digest` is
    that of the JSON value, None where there is no body. Requests are equal if one of the two is. `repeated` is for
    requests whose key was made here.
    """

    key: str
    digest: str
    value_digest: str | None = None
    repeated: RepeatedRequest | None = None


class TaskIntake(Protocol):
    """Storage of new tasks."""

    async def add(
        self,
        task: Task,
        blobs: Sequence[Blob],
        idempotency: IdempotencyKey | None,
        secrets: Sequence[SealedSecret] = (),
    ) -> Task:
        """Store a new task with its blobs and sealed secrets durably and return it.

        With a known key, return the first task.

        Raises Conflict if the key is known with other digests, QueueFull if the client's queue takes no more bytes.
        """


class SealedSecrets(Protocol):
    """The sealed webhook secrets of clients."""

    async def load(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the sealed secrets with these `ids`, without those that are deleted."""


class SealedRows(Protocol):
    """All sealed secrets of entries, to be sealed again."""

    async def page(self, *, after: str, limit: int) -> dict[str, str]:
        """Return the sealed secrets with the next ids after one, by id."""

    async def replace(self, changes: Sequence[Resealed]) -> int:
        """Store secrets that were sealed again, unless the row has changed or is deleted; return how many."""


class BlobStore(Protocol):
    """Storage of the blobs of tasks."""

    async def load(self, task_id: TaskId) -> dict[str, Blob]:
        """Return the blobs of a task by place: parameter and index, `images.0`."""

    async def stored_at(self, task_id: TaskId) -> frozenset[str]:
        """Return the places of the blobs of a task that are stored; no blob is read."""

    async def payload(self, task_id: TaskId) -> str | None:
        """Return the caller's own payload, or None."""

    async def meta_data(self, task_id: TaskId) -> str | None:
        """Return the caller's own `meta_data`, or None."""


@dataclass(frozen=True, kw_only=True)
class TaskFilter:
    """A filter for lists of tasks: `client` None for all clients; newest first, after `cursor` (a task id).

    With `oldest_first` the order is the other one. `without_result`: only those that were paid without any result.

    The fields `without` (metadata, notify, hinted_fact) are not read, and are empty in the tasks. `statuses` are those
    that tasks may have, none for all; `since` and `until` (exclusive) limit when they were created. Only
    `window` and `status_counts` know `exact`, an id of the task or of the provider, and `terms`, what else it has.
    """

    client: str | None = None
    status: str | None = None
    statuses: frozenset[str] = frozenset()
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    exact: str | None = None
    terms: SearchTerms = NO_TERMS
    without_result: bool = False
    limit: int = 50
    cursor: str | None = None
    oldest_first: bool = False
    without: frozenset[str] = frozenset()

    @property
    def is_selective(self) -> bool:
        """Whether most tasks may not pass the filter, so that a read of a list has to be bounded."""
        return self.status is not None or bool(self.statuses) or self.model is not None


class TaskQueries(Protocol):
    """Read queries, which never read a blob."""

    async def task(self, task_id: TaskId) -> Task | None:
        """Return one task, or None."""

    async def ended(self, task_ids: Collection[TaskId]) -> list[TaskId]:
        """Return those of the tasks that are settled or expired."""

    async def tasks(self, wanted: TaskFilter) -> list[Task]:
        """Return tasks, newest first."""

    async def window(self, wanted: TaskFilter) -> TaskWindow:
        """Return the next tasks that a bounded read finds, newest first; with words in the order of submission."""

    async def status_counts(self, wanted: TaskFilter) -> list[StatusCount]:
        """Return how many tasks of each status pass the filter, as far as a bounded read knows."""

    async def newest_with_key(self, client: str, prefix: str, since: datetime) -> Task | None:
        """Return the newest task of `client` since then whose idempotency key begins with `prefix`, or None."""

    async def history(self, task_id: TaskId, *, after: HistoryPosition | None = None, limit: int) -> list[HistoryEntry]:
        """Return the next `limit` entries of a task's history after a position, oldest first; events have no data.

        An entry is an event, callback, poll, wait, delivery or attempt as plain JSON.
        """

    async def event_data(self, event_ids: Sequence[str]) -> dict[str, Json]:
        """Return the data of events by their ids."""

    async def deliveries(self, wanted: DeliverySelection) -> DeliveryWindow:
        """Return the next deliveries that a bounded read finds, newest first."""
