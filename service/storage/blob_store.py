"""Blobs of tasks. Equal media are stored once: the first task stores the data, later ones refer to them by hash.

Processes of the previous release read only the table `inputs`, so sharing begins at the time that the migration stored.
The data are deleted with the last reference. On PostgreSQL an intake locks the data that it refers to, and the
retention locks them before it looks for references, so that neither misses the other.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, select, union_all
from sqlalchemy import insert as plain_insert

from service.concurrency.batcher import Batcher
from service.domain.blob import Blob
from service.domain.task import TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import insert_many
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.dialects import insert
from service.storage.lookups import first_value, in_found
from service.storage.process_tables import rollouts
from service.storage.tables import input_data, input_references, inputs, unindexed

PAYLOAD = "payload"
META_DATA = "meta_data"
UNSHARED = frozenset({PAYLOAD, META_DATA})
"""Places of texts, which are never shared: deliveries read them from `inputs`."""

SHARED_INPUTS = "shared_inputs"
"""Name of the rollout whose time says from when on equal inputs are stored once."""

_BLOB = plain_insert(inputs)
_KNOWN_DATA = (
    select(input_data.c.sha256)
    .where(in_list(input_data.c.sha256, "hashes"))
    .order_by(input_data.c.sha256)  # one order everywhere: no deadlock
)
_UNREFERENCED = first_value(input_references.c.task_id, input_references.c.sha256 == input_data.c.sha256).is_(None)


def _data_of(references: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that such references name the data.

    A join alone lets PostgreSQL look up each row of the data, if these were nearly empty, among the references. The
    join compares an expression, since the index of references by the data would have its order.
    """
    return in_found(input_data.c.sha256, select(input_references.c.sha256).where(references))


_COLUMNS = ("place", "media_type", "sha256")
_LOAD = union_all(
    select(inputs.c.task_id, *[inputs.c[name] for name in _COLUMNS], inputs.c.data).where(
        in_list(inputs.c.task_id, "ids")
    ),
    select(input_references.c.task_id, *[input_references.c[name] for name in _COLUMNS], input_data.c.data)
    .join_from(input_references, input_data, unindexed(input_references.c.sha256) == input_data.c.sha256)
    .where(in_list(input_references.c.task_id, "ids"), _data_of(in_list(input_references.c.task_id, "ids"))),
)
_STORED = union_all(
    select(inputs.c.place).where(inputs.c.task_id == bindparam("id")),
    select(input_references.c.place)
    .join_from(input_references, input_data, unindexed(input_references.c.sha256) == input_data.c.sha256)
    .where(input_references.c.task_id == bindparam("id"), _data_of(input_references.c.task_id == bindparam("id"))),
)
CLOSE_TIMEOUT = 1.0
MAX_REMEMBERED = 10_000
"""Tasks without blobs that a process remembers."""

MAX_LOADS = 64
"""Tasks whose blobs are loaded at once; those who load large ones have reserved memory for them."""


class TasksWithoutBlobs:
    """Tasks that this process has stored without blobs and has not submitted yet: their submission reads none.

    Most tasks have no blobs. Blobs are stored with their task and never added later.
    """

    def __init__(self) -> None:
        self._ids: dict[TaskId, None] = {}

    def add(self, ids: Iterable[TaskId]) -> None:
        """Remember tasks; above MAX_REMEMBERED the oldest ones are dropped."""
        self._ids |= dict.fromkeys(ids)
        while len(self._ids) > MAX_REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def take(self, task_id: TaskId) -> bool:
        """Return whether the task is remembered, and drop it: it is submitted now."""
        if task_id not in self._ids:
            return False
        del self._ids[task_id]
        return True


class SqlBlobStore:
    """Implements `BlobStore`. Loads at the same time share a transaction; `without` are tasks that need none."""

    def __init__(self, database: Database, without: TasksWithoutBlobs) -> None:
        self._database = database
        self._without = without
        self._loads: Batcher[TaskId, dict[str, Blob]] = Batcher(self._load, max_items=MAX_LOADS)

    async def load(self, task_id: TaskId) -> dict[str, Blob]:
        """Return every blob of the task by its place."""
        return {} if self._without.take(task_id) else await self._loads.add(task_id)

    async def close(self) -> None:
        """Wait up to CLOSE_TIMEOUT seconds for a load whose caller was cancelled: its connection is still in use."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._loads.flush()

    async def _load(self, task_ids: Sequence[TaskId]) -> list[dict[str, Blob]]:
        found: dict[str, dict[str, Blob]] = {task_id: {} for task_id in task_ids}
        async with self._database.reading() as connection:
            for row in await connection.execute(_LOAD, {"ids": task_ids}):
                values = {name: getattr(row, name) for name in _COLUMNS}
                found[row.task_id][row.place] = Blob(**values, data=row.data)
        return [found[task_id] for task_id in task_ids]

    async def stored_at(self, task_id: TaskId) -> frozenset[str]:
        """Return the places of the blobs of the task that are stored; no blob is read."""
        async with self._database.reading() as connection:
            return frozenset((await connection.execute(_STORED, {"id": task_id})).scalars())

    async def payload(self, task_id: TaskId) -> str | None:
        """Return the caller's own payload, None if there is none."""
        return await self._text(task_id, PAYLOAD)

    async def meta_data(self, task_id: TaskId) -> str | None:
        """Return the caller's own `meta_data`, None if there is none."""
        return await self._text(task_id, META_DATA)

    async def _text(self, task_id: TaskId, place: str) -> str | None:
        query = select(inputs.c.data).where(inputs.c.task_id == task_id, inputs.c.place == place)
        async with self._database.reading() as connection:
            return payload_text((await connection.execute(query)).scalar_one_or_none())


def payload_text(data: bytes | None) -> str | None:
    """Return the text of a payload's blob; it was JSON, so it may hold lone surrogates."""
    return None if data is None else data.decode("utf-8", "surrogatepass")


async def sharing_from(connection: AsyncConnection) -> datetime | None:
    """Return from when on new tasks share equal inputs, or None for never."""
    query = select(rollouts.c.begins_at).where(rollouts.c.name == SHARED_INPUTS)
    begins_at: datetime | None = (await connection.execute(query)).scalar_one_or_none()
    return begins_at


async def insert_blobs(connection: AsyncConnection, blobs: Sequence[tuple[TaskId, Blob]], *, share: bool) -> None:
    """Insert the blobs of new tasks; with `share`, the data of equal media only if they are not stored yet."""
    shared = [(task_id, blob) for task_id, blob in blobs if share and blob.place not in UNSHARED]
    own = [(task_id, blob) for task_id, blob in blobs if not share or blob.place in UNSHARED]
    await _insert(connection, [_row(task_id, blob) | {"data": blob.data} for task_id, blob in own])
    if shared:
        await _insert_data(connection, {blob.sha256: blob for _, blob in shared})
        await insert_many(connection, input_references, [_row(task_id, blob) for task_id, blob in shared])


def _row(task_id: TaskId, blob: Blob) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "place": blob.place,
        "media_type": blob.media_type,
        "sha256": blob.sha256,
        "bytes": len(blob.data),
    }


async def _insert(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert blobs with their data: on PostgreSQL one by one, since its driver copies every blob of a batch."""
    if connection.dialect.name == "postgresql":
        for row in rows:
            await connection.execute(_BLOB, row)
    else:
        await insert_many(connection, inputs, rows)


async def _insert_data(connection: AsyncConnection, blobs: dict[str, Blob]) -> None:
    """Insert what is not stored yet; on PostgreSQL all of it is then locked against deletion until the commit."""
    postgres = connection.dialect.name == "postgresql"
    known = _KNOWN_DATA.with_for_update(key_share=True) if postgres else _KNOWN_DATA
    stored = set((await connection.execute(known, {"hashes": [*blobs]})).scalars())
    rows = [
        {"sha256": sha256, "bytes": len(blobs[sha256].data), "data": blobs[sha256].data}
        for sha256 in sorted(blobs.keys() - stored)
    ]
    if not postgres:
        await insert_many(connection, input_data, rows)
        return
    statement = insert(connection, input_data)
    locked = statement.on_conflict_do_update(index_elements=["sha256"], set_={"bytes": statement.excluded.bytes})
    for row in rows:
        await connection.execute(locked, row)


async def delete_unreferenced(connection: AsyncConnection, hashes: Iterable[str]) -> int:
    """Delete the data with one of `hashes` to which no task refers any more; return how many rows that were.

    The second statement sees what other transactions had committed when the locks were granted.
    """
    names = sorted(set(hashes))
    if connection.dialect.name == "postgresql":
        await connection.execute(_KNOWN_DATA.with_for_update(), {"hashes": names})
    statement = delete(input_data).where(in_list(input_data.c.sha256, "hashes"), _UNREFERENCED)
    return (await connection.execute(statement, {"hashes": names})).rowcount
