"""Where new tasks come in, and the blobs that come with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import insert as plain_insert
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.concurrency.batcher import Batcher, commit_or_bisect
from service.domain.blob import Blob
from service.domain.errors import Conflict
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Task, TaskId
from service.storage.bulk_writes import insert_many
from service.storage.database import Database
from service.storage.dialects import insert
from service.storage.tables import inputs as blobs
from service.storage.tables import tasks
from service.storage.task_rows import TASK_COLUMNS, Values, task_of, values_of

PAYLOAD = "payload"
BLOB = plain_insert(blobs)

TOGETHER = 64
"""Tasks in one commit at most."""

HEAVIEST = 4 * 1024 * 1024
"""Bytes of media in one commit at most: they make it long, and callbacks wait behind it."""

ALONE = 1024 * 1024
"""Bytes of media from which on a task has a commit of its own."""


@dataclass(frozen=True, kw_only=True)
class New:
    """A task that is to be stored, with what comes with it."""

    task: Task
    inputs: Sequence[Blob]
    idempotency: IdempotencyKey | None


def _size(new: New) -> int:
    """Return how many bytes its blobs have."""
    return sum(len(one.data) for one in new.inputs)


class SqlTaskIntake:
    """Implements `Intake`: what comes at the same time shares a commit, unless it is large."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batcher: Batcher[New, Task | Exception] = Batcher(
            partial(commit_or_bisect, self._commit), max_items=TOGETHER, weigh=_size, max_weight=HEAVIEST
        )

    async def add(self, task: Task, inputs: Sequence[Blob], idempotency: IdempotencyKey | None) -> Task:
        """Store a new task durably and return it; with a known key, the first task again.

        Raises Conflict when the key is known with another digest.
        """
        new = New(task=task, inputs=inputs, idempotency=idempotency)
        kept = (await self._commit([new]))[0] if _size(new) > ALONE else await self._batcher.add(new)
        if isinstance(kept, Exception):
            raise kept
        return kept

    async def _commit(self, batch: Sequence[New]) -> list[Task | Conflict]:
        """Store what is new of `batch`; return the task that each of them is, or the conflict of its key."""
        kept: dict[TaskId, Task | Conflict] = {}
        async with self._database.writing() as write:
            keyed = [(new.task, new.idempotency) for new in batch if new.idempotency]
            for task, key in sorted(keyed, key=_place):  # in one order everywhere: no deadlock
                kept[task.id] = await _keyed(write.connection, task, key)
            keyless = [new.task for new in batch if not new.idempotency]
            await insert_many(write.connection, tasks, [values_of(task) for task in keyless])
            kept |= {task.id: task for task in keyless}
            fresh = [new for new in batch if kept[new.task.id] is new.task]
            await _insert_blobs(write.connection, [_blob(new.task.id, one) for new in fresh for one in new.inputs])
            write.topics.update({"submit"} if fresh else ())
        return [kept[new.task.id] for new in batch]


class SqlBlobStore:
    """Implements `Inputs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, task_id: TaskId) -> dict[str, Blob]:
        """Return every blob of the task by its place."""
        query = select(blobs.c.place, blobs.c.media_type, blobs.c.sha256, blobs.c.data)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.where(blobs.c.task_id == task_id))
            return {row.place: Blob(**row._mapping) for row in rows}  # noqa: SLF001 - SQLAlchemy's public name for it

    async def payload(self, task_id: TaskId) -> str | None:
        """Return the caller's own payload."""
        query = select(blobs.c.data).where(blobs.c.task_id == task_id, blobs.c.place == PAYLOAD)
        async with self._database.reading() as connection:
            return payload_text((await connection.execute(query)).scalar_one_or_none())


def payload_text(data: bytes | None) -> str | None:
    """Return the text of a payload's blob; it came as JSON, so that it may hold lone surrogates."""
    return None if data is None else data.decode("utf-8", "surrogatepass")


def _blob(task_id: TaskId, one: Blob) -> Values:
    return {
        "task_id": task_id,
        "place": one.place,
        "media_type": one.media_type,
        "sha256": one.sha256,
        "bytes": len(one.data),
        "data": one.data,
    }


async def _insert_blobs(connection: AsyncConnection, rows: Sequence[Values]) -> None:
    """Store blobs: on PostgreSQL one by one, for its driver would hold a copy of every blob of a batch."""
    if connection.dialect.name == "postgresql":
        for row in rows:
            await connection.execute(BLOB, row)
    else:
        await insert_many(connection, blobs, rows)


def _place(keyed: tuple[Task, IdempotencyKey]) -> tuple[str, str]:
    task, key = keyed
    return task.client, key.key


async def _keyed(connection: AsyncConnection, task: Task, key: IdempotencyKey) -> Task | Conflict:
    """Store a task that has a key, and return it; when the key is known, the first task with it."""
    statement = insert(connection, tasks).on_conflict_do_nothing(index_elements=["client", "idempotency_key"])
    row = values_of(task) | {"idempotency_key": key.key, "idempotency_digest": key.digest}
    if (await connection.execute(statement.returning(tasks.c.id), row)).first():
        return task
    query = select(*TASK_COLUMNS, tasks.c.idempotency_digest)
    known = (tasks.c.client == task.client) & (tasks.c.idempotency_key == key.key)
    found = (await connection.execute(query.where(known))).mappings().one()
    if found["idempotency_digest"] != key.digest:
        return Conflict("this Idempotency-Key was used for another request")
    return task_of(found)
