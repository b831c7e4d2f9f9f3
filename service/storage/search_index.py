"""Fills the words of tasks from the log of events, in small steps and in the background; old tasks come first.

A task has words once it was submitted or has ended; until then a search reads it itself. The previous release needs to
know nothing of it: it writes events too.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Row, delete, func, select, update

from service.domain.search import task_numbers
from service.domain.task import EventType, Json, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import insert_many
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.delivery_tables import deliveries
from service.storage.dialects import advisory_lock, insert
from service.storage.search_tables import search_progress, search_words
from service.storage.tables import events, tasks

NAME = "events"
LOCK = "search"
HEADS_AT_ONCE = 250
"""Events of the log that one run looks at."""

TASKS_AT_ONCE = 60
"""Tasks whose words are written in one transaction: other writers do not wait long."""

RUN_SECONDS = 0.4
"""How long a run continues while there are more events."""

PAUSE_RATIO = 8.0
"""Pause between two steps in times of the step: a step takes longer while others work, and they get more time.

With 2, a burst of callbacks was acknowledged a quarter more slowly."""

WITH_WORDS = frozenset(each.value for each in EventType) - {EventType.PROGRESSED.value, EventType.ARTIFACT_STORED.value}
"""Events from which words are read: the first one of each task, and those that end it, with their handlers."""

PROGRESS = select(search_progress.c.seq).where(search_progress.c.name == NAME)
FIRST_NUMBERS = (
    select(events.c.task_id, func.min(events.c.seq)).where(in_list(events.c.task_id, "ids")).group_by(events.c.task_id)
)
DATA = select(events.c.task_id, events.c.data).where(in_list(events.c.seq, "numbers", numbers=True))
HANDLERS = select(deliveries.c.task_id, deliveries.c.handler).where(in_list(deliveries.c.task_id, "ids")).distinct()
ERASED = select(tasks.c.id).where(in_list(tasks.c.id, "ids"), tasks.c.erased_at.is_not(None))


@dataclass(frozen=True, kw_only=True)
class _Step:
    """Events up to the number `last`, and the words of their tasks by the numbers of their first events.

    `more` is whether the log may have further ones.
    """

    after: int
    last: int
    more: bool
    words: dict[TaskId, tuple[int, set[int]]]


class SqlSearchIndex:
    """Adds the words of new tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def advance_far(self) -> int:
        """Advance step by step while there are more events, for RUN_SECONDS; return how many events were read."""
        loop, total = asyncio.get_running_loop(), 0
        until = loop.time() + RUN_SECONDS
        while True:
            began = loop.time()
            step = await self._advance()
            total += step.last - step.after if step else 0
            pause = PAUSE_RATIO * (loop.time() - began)
            if step is None or not step.more or loop.time() + pause >= until:
                return total
            await asyncio.sleep(pause)

    async def advance(self) -> int:
        """Read the next events and write the words of their tasks; return how many events were read."""
        step = await self._advance()
        return step.last - step.after if step else 0

    async def _advance(self) -> _Step | None:
        async with self._database.reading() as connection:
            step = await _read(connection)
        if step is None:
            return None
        async with self._database.writing() as write:
            await advisory_lock(write.connection, LOCK)
            if await _move(write.connection, step):
                await _write(write.connection, step)
        return step


async def _read(connection: AsyncConnection) -> _Step | None:
    after = (await connection.execute(PROGRESS)).scalar() or 0
    heads = select(events.c.seq, events.c.task_id, events.c.type).where(events.c.seq > after)
    rows = (await connection.execute(heads.order_by(events.c.seq).limit(HEADS_AT_ONCE))).all()
    if not rows:
        return None
    newest: dict[str, int] = {}
    last = after
    for row in rows:
        if row.type in WITH_WORDS:
            if len(newest) == TASKS_AT_ONCE and row.task_id not in newest:
                break
            newest[row.task_id] = row.seq
        last = row.seq
    more = len(rows) == HEADS_AT_ONCE or last < rows[-1].seq
    return _Step(after=after, last=last, more=more, words=await _words(connection, newest))


async def _words(connection: AsyncConnection, newest: dict[str, int]) -> dict[TaskId, tuple[int, set[int]]]:
    ids = {"ids": list(newest)}
    handlers: dict[str, set[str]] = defaultdict(set)
    for task_id, handler in await connection.execute(HANDLERS, ids):
        handlers[task_id].add(handler)
    first: Sequence[Row[str, int]] = (await connection.execute(FIRST_NUMBERS, ids)).all()
    rows = await connection.execute(DATA, {"numbers": list(newest.values())})
    data: dict[str, Json] = {row.task_id: row.data for row in rows}
    return {
        TaskId(task_id): (
            seq,
            task_numbers(data[task_id].get("params") or {}, data[task_id].get("metadata") or {}, handlers[task_id]),
        )
        for task_id, seq in first
        if task_id in data
    }


async def _move(connection: AsyncConnection, step: _Step) -> bool:
    """Move the progress on; return False if another process has done so."""
    if step.after:
        moved = update(search_progress).where(search_progress.c.name == NAME, search_progress.c.seq == step.after)
        return (
            await connection.execute(moved.values(seq=step.last).returning(search_progress.c.seq))
        ).first() is not None
    begun = insert(connection, search_progress).values(name=NAME, seq=step.last).on_conflict_do_nothing()
    return (await connection.execute(begun.returning(search_progress.c.seq))).first() is not None


async def _write(connection: AsyncConnection, step: _Step) -> None:
    gone = set((await connection.execute(ERASED, {"ids": list(step.words)})).scalars())
    rows = [
        {"word": word, "seq": seq}
        for task_id, (seq, words) in step.words.items()
        if task_id not in gone
        for word in sorted(words)
    ]
    await insert_many(connection, search_words, rows)


async def delete_words(connection: AsyncConnection, task_id: TaskId, params: Json, metadata: Json) -> None:
    """Delete the words of a task; words that are added at this moment are deleted or not written."""
    await advisory_lock(connection, LOCK)
    ids: dict[str, Collection[str]] = {"ids": [task_id]}
    first = (await connection.execute(FIRST_NUMBERS, ids)).first()
    handlers = [handler for _, handler in await connection.execute(HANDLERS, ids)]
    if first is not None:
        words = in_list(search_words.c.word, "words", numbers=True)
        statement = delete(search_words).where(search_words.c.seq == first[1], words)
        await connection.execute(statement, {"words": list(task_numbers(params, metadata, handlers))})
