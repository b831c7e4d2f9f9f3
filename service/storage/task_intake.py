"""Intake of new tasks with their blobs, within the limit of each client's queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter

from sqlalchemy import select

from service.concurrency.batcher import Batcher, commit_or_bisect
from service.domain.blob import Blob
from service.domain.errors import KeyReused, QueueFull, SenderError
from service.domain.media.limits import MB
from service.domain.ports.tasks import IdempotencyKey
from service.domain.sealed_targets import SealedSecret
from service.domain.task import Task, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.blob_store import TasksWithoutBlobs, insert_blobs, sharing_from
from service.storage.bulk_writes import insert_many
from service.storage.database import Database
from service.storage.dialects import insert
from service.storage.queue_limit import MAX_QUEUED_BYTES, counted_bytes, tasks_above_limit
from service.storage.repeated_requests import task_of_equal_request
from service.storage.sealed_secrets import insert_secrets
from service.storage.tables import tasks
from service.storage.task_rows import TASK_COLUMNS, Values, task_from_row, task_values

NEVER = datetime.max.replace(tzinfo=UTC)
QUEUE_FULL = (
    f"your unfinished tasks hold {MAX_QUEUED_BYTES // MB} MB of inputs, the most that one client may keep here: "
    "wait until some of them have ended, or send the addresses of media instead of the media"
)

MAX_TASKS_PER_COMMIT = 64

MAX_BYTES_PER_COMMIT = 4 * 1024 * 1024
"""Limit on the media of one commit: they make it long, and callbacks wait for it."""

MIN_BYTES_FOR_OWN_COMMIT = 1024 * 1024
"""A task with more bytes of media has its own commit."""


@dataclass(frozen=True, kw_only=True)
class IntakeItem:
    """A task to be stored with its blobs; `size` is the number of bytes in them.

    `counted` is what the task adds to its client's queue in bytes, None if it is too small to count.
    """

    task: Task
    blobs: Sequence[Blob]
    idempotency: IdempotencyKey | None
    size: int
    counted: int | None
    secrets: Sequence[SealedSecret] = ()


class SqlTaskIntake:
    """Implements `TaskIntake`: tasks that arrive at the same time share a commit, unless they are large."""

    def __init__(self, database: Database, without_blobs: TasksWithoutBlobs) -> None:
        self._database = database
        self._without_blobs = without_blobs
        self._sharing_from: datetime | None = None
        self._batcher: Batcher[IntakeItem, Task | Exception] = Batcher(
            partial(commit_or_bisect, self._commit),
            max_items=MAX_TASKS_PER_COMMIT,
            weigh=attrgetter("size"),
            max_weight=MAX_BYTES_PER_COMMIT,
        )

    async def add(
        self,
        task: Task,
        blobs: Sequence[Blob],
        idempotency: IdempotencyKey | None,
        secrets: Sequence[SealedSecret] = (),
    ) -> Task:
        """Store a new task durably and return it; with a known key, return the first task with that key.

        Raises Conflict if the key is known with other digests, QueueFull if the client's queue takes no more bytes.
        """
        size = sum([len(blob.data) for blob in blobs]) if blobs else 0
        counted = counted_bytes(task, blobs)
        item = IntakeItem(task=task, blobs=blobs, idempotency=idempotency, size=size, counted=counted, secrets=secrets)
        stored = (await self._commit([item]))[0] if size > MIN_BYTES_FOR_OWN_COMMIT else await self._batcher.add(item)
        if isinstance(stored, Exception):
            raise stored
        return stored

    async def _commit(self, batch: Sequence[IntakeItem]) -> list[Task | SenderError]:
        """Store the new tasks of `batch`; return for each item its task, or why it is refused."""
        stored: dict[TaskId, Task | SenderError] = {}
        async with self._database.writing() as write:
            sizes = [(item.task, item.counted) for item in batch if item.counted is not None]
            refused = await tasks_above_limit(write.connection, sizes) if sizes else set()
            for item in sorted(filter(attrgetter("idempotency"), batch), key=_by_client_and_key):
                stored[item.task.id] = await _store_with_key(write.connection, item, full=item.task.id in refused)
            rows = []
            for item in batch:
                if not item.idempotency:
                    stored[item.task.id] = QueueFull(QUEUE_FULL) if item.task.id in refused else item.task
                    rows += [] if item.task.id in refused else [_values(item)]
            await insert_many(write.connection, tasks, rows)
            new = [item for item in batch if stored[item.task.id] is item.task]
            if any(map(attrgetter("blobs"), new)):
                blobs = [(item.task.id, blob) for item in new for blob in item.blobs]
                share = await self._shares(write.connection, min(item.task.created_at for item in new))
                await insert_blobs(write.connection, blobs, share=share)
            if secrets := [secret for item in new for secret in item.secrets]:
                await insert_secrets(write.connection, secrets)
            if new:
                write.topics.add("submit")
            self._without_blobs.add(item.task.id for item in new if not item.blobs)
        return [stored[item.task.id] for item in batch]

    async def _shares(self, connection: AsyncConnection, now: datetime) -> bool:
        """Return whether tasks accepted at `now` share equal inputs. The time when that begins is read once."""
        if self._sharing_from is None:
            self._sharing_from = await sharing_from(connection) or NEVER
        return now >= self._sharing_from


def _by_client_and_key(item: IntakeItem) -> tuple[str, str]:
    """Return the sort key of items with an idempotency key: one order everywhere, so that there is no deadlock."""
    return item.task.client, item.idempotency.key if item.idempotency else ""


def _values(item: IntakeItem) -> Values:
    return task_values(item.task) | {"input_bytes": item.counted}


async def _store_with_key(connection: AsyncConnection, item: IntakeItem, *, full: bool) -> Task | SenderError:
    """Store a task that has a key and return it; if the key is known, return the first task with it or the conflict.

    With `full` a new task is not stored: the client's queue is full.
    """
    task, key = item.task, item.idempotency
    if key is None:
        raise ValueError("the task has no idempotency key")
    if key.repeated and (earlier := await task_of_equal_request(connection, task.client, key.repeated)):
        return earlier
    if not full:
        statement = insert(connection, tasks).on_conflict_do_nothing(index_elements=["client", "idempotency_key"])
        row = _values(item) | {
            "idempotency_key": key.key,
            "idempotency_digest": key.digest,
            "idempotency_value_digest": key.value_digest,
        }
        if (await connection.execute(statement.returning(tasks.c.id), row)).first():
            return task
    query = select(*TASK_COLUMNS, tasks.c.idempotency_digest, tasks.c.idempotency_value_digest)
    known = (tasks.c.client == task.client) & (tasks.c.idempotency_key == key.key)
    found = (await connection.execute(query.where(known))).one_or_none()
    if found is None:
        return QueueFull(QUEUE_FULL)
    by_value = key.value_digest is not None and found.idempotency_value_digest == key.value_digest
    if not by_value and found.idempotency_digest != key.digest:
        return KeyReused("this Idempotency-Key was used for another request")
    return task_from_row(found)
