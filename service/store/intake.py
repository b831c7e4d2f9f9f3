"""Where new tasks come in, and the blobs that come with them."""

from collections.abc import Sequence

from sqlalchemy import insert as plain_insert
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.inputs import Input
from service.core.task import Task, TaskId
from service.errors import Conflict
from service.ports import IdempotencyKey
from service.store.dialect import insert
from service.store.engine import Database
from service.store.rows import TASK_COLUMNS, Values, task_of, values_of
from service.store.tables import inputs as blobs
from service.store.tables import tasks

PAYLOAD = "payload"


class StoreIntake:
    """Implements `Intake`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, task: Task, inputs: Sequence[Input], idempotency: IdempotencyKey | None) -> Task:
        """Store a new task durably and return it; with a known key, the first task again.

        Raises Conflict when the key is known with another digest.
        """
        async with self._database.writing() as write:
            if not await _insert_task(write.connection, task, idempotency):
                return await _first_task(write.connection, task, idempotency)
            for one in inputs:  # one by one: a driver would hold a copy of every blob of a batch
                await write.connection.execute(plain_insert(blobs), _blob(task.id, one))
            write.topics.add("submit")
        return task


class StoreInputs:
    """Implements `Inputs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, task_id: TaskId) -> dict[str, Input]:
        """Return every blob of the task by its place."""
        query = select(blobs.c.place, blobs.c.media_type, blobs.c.sha256, blobs.c.data)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.where(blobs.c.task_id == task_id))
            return {row.place: Input(**row._mapping) for row in rows}  # noqa: SLF001 - SQLAlchemy's public name for it

    async def payload(self, task_id: TaskId) -> str | None:
        """Return the caller's own payload."""
        query = select(blobs.c.data).where(blobs.c.task_id == task_id, blobs.c.place == PAYLOAD)
        async with self._database.reading() as connection:
            return payload_text((await connection.execute(query)).scalar_one_or_none())


def payload_text(data: bytes | None) -> str | None:
    """Return the text of a payload's blob; it came as JSON, so that it may hold lone surrogates."""
    return None if data is None else data.decode("utf-8", "surrogatepass")


def _blob(task_id: TaskId, one: Input) -> Values:
    return {
        "task_id": task_id,
        "place": one.place,
        "media_type": one.media_type,
        "sha256": one.sha256,
        "bytes": len(one.data),
        "data": one.data,
    }


async def _insert_task(connection: AsyncConnection, task: Task, idempotency: IdempotencyKey | None) -> bool:
    statement = insert(connection, tasks).values(values_of(task))
    if idempotency is not None:
        statement = statement.values(idempotency_key=idempotency.key, idempotency_digest=idempotency.digest)
    unique = statement.on_conflict_do_nothing(index_elements=["client", "idempotency_key"])
    return (await connection.execute(unique.returning(tasks.c.id))).first() is not None


async def _first_task(connection: AsyncConnection, task: Task, idempotency: IdempotencyKey | None) -> Task:
    key = idempotency.key if idempotency else None
    query = select(*TASK_COLUMNS, tasks.c.idempotency_digest)
    found = await connection.execute(query.where(tasks.c.client == task.client, tasks.c.idempotency_key == key))
    row = found.mappings().one()
    if idempotency and row["idempotency_digest"] != idempotency.digest:
        raise Conflict("this Idempotency-Key was used for another request")
    return task_of(row)
