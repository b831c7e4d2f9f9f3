"""Intake and reading: how new tasks and their blobs come in, and how everything is looked up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.blob import Blob
from service.domain.task import Json, Task, TaskId


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """A client's promise that equal keys mean one intent; `digest` is of the request's body."""

    key: str
    digest: str


class TaskIntake(Protocol):
    """Where new tasks come in."""

    async def add(self, task: Task, blobs: Sequence[Blob], idempotency: IdempotencyKey | None) -> Task:
        """Store a new task durably and return it; with a known key, the first task again.

        Raises Conflict when the key is known with another digest.
        """


class BlobStore(Protocol):
    """The blobs of tasks, apart from everything else."""

    async def load(self, task_id: TaskId) -> dict[str, Blob]:
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


class TaskQueries(Protocol):
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
