"""Intake of new tasks and of their blobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from sqlalchemy import insert as plain_insert
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.concurrency.batcher import Batcher, commit_or_bisect
from service.domain.blob import Blob
from service.domain.errors import Conflict
from service.domain.ports.tasks import IdempotencyKey
from service.domain.sealed_targets import SealedSecret
from service.domain.task import Task, TaskId
from service.storage.bulk_writes import insert_many
from service.storage.database import Database
from service.storage.dialects import insert
from service.storage.sealed_secrets import insert_secrets
from service.storage.tables import inputs, tasks
from service.storage.task_rows import TASK_COLUMNS, task_from_row, task_values

PAYLOAD = "payload"
BLOB = plain_insert(inputs)

MAX_TASKS_PER_COMMIT = 64

MAX_BYTES_PER_COMMIT = 4 * 1024 * 1024
"""Limit on the media of one commit: they make it long, and callbacks wait for it."""

MIN_BYTES_FOR_OWN_COMMIT = 1024 * 1024
"""A task with more bytes of media has its own commit."""


@dataclass(frozen=True, kw_only=True)
class IntakeItem:
    """A task to be stored with its blobs; `size` is the number of bytes in them."""

    task: Task
    blobs: Sequence[Blob]
    idempotency: IdempotencyKey | None
    size: int
    secrets: Sequence[SealedSecret] = ()


class SqlTaskIntake:
    """Implements `TaskIntake`: tasks that arrive at the same time share a commit, unless they are large."""

    def __init__(self, database: Database) -> None:
        self._database = database
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

        Raises Conflict if the key is known with another digest.
        """
        size = sum([len(blob.data) for blob in blobs]) if blobs else 0
        item = IntakeItem(task=task, blobs=blobs, idempotency=idempotency, size=size, secrets=secrets)
        stored = (await self._commit([item]))[0] if size > MIN_BYTES_FOR_OWN_COMMIT else await self._batcher.add(item)
        if isinstance(stored, Exception):
            raise stored
        return stored

    async def _commit(self, batch: Sequence[IntakeItem]) -> list[Task | Conflict]:
        """Store the new tasks of `batch`; return for each item its task, or the conflict of its key."""
        stored: dict[TaskId, Task | Conflict] = {}
        keyed = [(item.task, item.idempotency) for item in batch if item.idempotency]
        async with self._database.writing() as write:
            for task, key in sorted(keyed, key=_by_client_and_key):  # one order everywhere: no deadlock
                stored[task.id] = await _store_with_key(write.connection, task, key)
            rows = []
            for item in batch:
                if not item.idempotency:
                    stored[item.task.id] = item.task
                    rows.append(task_values(item.task))
            await insert_many(write.connection, tasks, rows)
            new = [item for item in batch if stored[item.task.id] is item.task]
            if any(map(attrgetter("blobs"), new)):
                await _insert_blobs(write.connection, new)
            if secrets := [secret for item in new for secret in item.secrets]:
                await insert_secrets(write.connection, secrets)
            if new:
                write.topics.add("submit")
        return [stored[item.task.id] for item in batch]


class SqlBlobStore:
    """Implements `BlobStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, task_id: TaskId) -> dict[str, Blob]:
        """Return every blob of the task by its place."""
        query = select(inputs.c.place, inputs.c.media_type, inputs.c.sha256, inputs.c.data)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.where(inputs.c.task_id == task_id))
            return {row.place: Blob(**row._mapping) for row in rows}  # noqa: SLF001 - a public name of SQLAlchemy

    async def payload(self, task_id: TaskId) -> str | None:
        """Return the caller's own payload, None if there is none."""
        query = select(inputs.c.data).where(inputs.c.task_id == task_id, inputs.c.place == PAYLOAD)
        async with self._database.reading() as connection:
            return payload_text((await connection.execute(query)).scalar_one_or_none())


def payload_text(data: bytes | None) -> str | None:
    """Return the text of a payload's blob; it was JSON, so it may hold lone surrogates."""
    return None if data is None else data.decode("utf-8", "surrogatepass")


async def _insert_blobs(connection: AsyncConnection, items: Sequence[IntakeItem]) -> None:
    """Insert the blobs of `items`: on PostgreSQL one by one, since its driver copies every blob of a batch."""
    rows = [
        {
            "task_id": item.task.id,
            "place": blob.place,
            "media_type": blob.media_type,
            "sha256": blob.sha256,
            "bytes": len(blob.data),
            "data": blob.data,
        }
        for item in items
        for blob in item.blobs
    ]
    if connection.dialect.name == "postgresql":
        for row in rows:
            await connection.execute(BLOB, row)
    else:
        await insert_many(connection, inputs, rows)


def _by_client_and_key(keyed: tuple[Task, IdempotencyKey]) -> tuple[str, str]:
    task, key = keyed
    return task.client, key.key


async def _store_with_key(connection: AsyncConnection, task: Task, key: IdempotencyKey) -> Task | Conflict:
    """Store a task that has a key and return it; if the key is known, return the first task with it or the conflict."""
    statement = insert(connection, tasks).on_conflict_do_nothing(index_elements=["client", "idempotency_key"])
    row = task_values(task) | {"idempotency_key": key.key, "idempotency_digest": key.digest}
    if (await connection.execute(statement.returning(tasks.c.id), row)).first():
        return task
    query = select(*TASK_COLUMNS, tasks.c.idempotency_digest)
    known = (tasks.c.client == task.client) & (tasks.c.idempotency_key == key.key)
    found = (await connection.execute(query.where(known))).mappings().one()
    if found["idempotency_digest"] != key.digest:
        return Conflict("this Idempotency-Key was used for another request")
    return task_from_row(found)
