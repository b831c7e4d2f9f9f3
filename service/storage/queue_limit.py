"""The limit on the bytes that the unfinished tasks of one client keep in the database."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import func, select

from service.domain.blob import Blob
from service.domain.task import Task, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import encode_json
from service.storage.dialects import advisory_lock
from service.storage.tables import OPEN, tasks

MAX_QUEUED_BYTES = 512 * 1024 * 1024
"""Enough for 25 of the largest requests, or for 500 with a megabyte of pictures each."""

MIN_COUNTED_BYTES = 4096
"""Smaller tasks, such as those whose media are addresses, are not counted: the count would cost them more than they."""


def counted_bytes(task: Task, blobs: Sequence[Blob]) -> int | None:
    """Return the bytes that a new task keeps in the database; None for a small one, which is not counted.

    Each task counts all its inputs, though equal ones are stored once: whose they are depends on who ends first.
    """
    size = sum([len(blob.data) for blob in blobs])
    size += sum([len(encode_json(value) or "") for value in (task.params, task.metadata, task.notify)])
    return size if size >= MIN_COUNTED_BYTES else None


async def tasks_above_limit(connection: AsyncConnection, sizes: Sequence[tuple[Task, int]]) -> set[TaskId]:
    """Return which of the new tasks, with their sizes in bytes, do not fit into the queues of their clients.

    Concurrent transactions of a client wait for each other here, so that they do not exceed the limit together.
    """
    by_client: defaultdict[str, list[tuple[Task, int]]] = defaultdict(list)
    for task, size in sizes:
        by_client[task.client].append((task, size))
    refused: set[TaskId] = set()
    for client, new in sorted(by_client.items()):  # one order everywhere: no deadlock
        await advisory_lock(connection, f"queue of {client}")
        queued = await _queued_bytes(connection, client)
        for task, size in new:
            if queued + size > MAX_QUEUED_BYTES:
                refused.add(task.id)
            else:
                queued += size
    return refused


async def _queued_bytes(connection: AsyncConnection, client: str) -> int:
    total = select(func.coalesce(func.sum(tasks.c.input_bytes), 0))
    counted = total.where(tasks.c.client == client, OPEN, tasks.c.input_bytes.is_not(None))
    return int((await connection.execute(counted)).scalar_one())
