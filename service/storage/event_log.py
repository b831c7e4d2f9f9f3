"""The log of events, in the order of their commits: only one transaction at a time numbers events."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import case, func, null, select

from service.domain.fast_copy import construct_unchecked
from service.domain.logged_event import MAX_PAYLOAD, EventFilter, EventHead, LoggedEvent
from service.domain.ports.unit_of_work import EventRow
from service.domain.task import EventType, TaskId
from service.storage.blob_store import PAYLOAD, payload_text
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.tables import events, inputs

EVENT_NAMES = tuple(field.name for field in fields(EventRow))
EVENT_COLUMNS = tuple(events.c[name] for name in EVENT_NAMES)
HEAD = (events.c.seq, events.c.client, events.c.task_id, events.c.type)
TYPES = {each.value: each for each in EventType}
OWN_PAYLOAD = (inputs.c.task_id == events.c.task_id) & (inputs.c.place == PAYLOAD)
SHORT_PAYLOAD = case((inputs.c.bytes <= MAX_PAYLOAD, inputs.c.data), else_=null()).label("payload")
BY_NUMBER = (
    select(*EVENT_COLUMNS, events.c.seq, SHORT_PAYLOAD, func.coalesce(inputs.c.bytes, 0).label("payload_bytes"))
    .select_from(events.outerjoin(inputs, OWN_PAYLOAD))
    .where(in_list(events.c.seq, "numbers", numbers=True))
    .order_by(events.c.seq)
)


class SqlEventLog:
    """Implements `EventLog`: a reader that resumes after its highest number misses no event."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, after: int, wanted: EventFilter, *, limit: int) -> list[EventHead]:
        """Return the next events after the number `after`, of the client and tasks of `wanted`, of every type.

        Types are left to the caller: so each call reads `limit` entries of an index at most.
        """
        query = select(*HEAD).where(events.c.seq > after)
        if wanted.tasks:
            query = query.where(events.c.task_id.in_(sorted(wanted.tasks)))
        if wanted.client is not None:
            query = query.where(events.c.client == wanted.client)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(events.c.seq).limit(limit))
            return [
                EventHead(seq=seq, client=client, task_id=TaskId(task_id), type=TYPES.get(kind))
                for seq, client, task_id, kind in rows
            ]

    async def load(self, numbers: Collection[int]) -> list[LoggedEvent]:
        """Return the events with these numbers, in their order."""
        async with self._database.reading() as connection:
            rows = await connection.execute(BY_NUMBER, {"numbers": list(numbers)})
            return [logged_event(row) for row in rows.all()]

    async def after(
        self,
        seq: int,
        *,
        client: str | None = None,
        task_id: TaskId | None = None,
        types: Sequence[EventType] = (),
        limit: int = 100,
    ) -> list[LoggedEvent]:
        """Return the next events after `seq`, those of the first `limit` that have one of `types` (all by default)."""
        wanted = EventFilter(client=client, tasks=frozenset([task_id] if task_id else []), types=frozenset(types))
        heads = await self.heads(seq, wanted, limit=limit)
        return await self.load([head.seq for head in heads if wanted.matches(head)])

    async def last(self) -> int:
        """Return the highest number, 0 if there is no event yet."""
        async with self._database.reading() as connection:
            highest = (await connection.execute(select(func.max(events.c.seq)))).scalar()
            return highest or 0


def event_from_row(row: Sequence[Any]) -> EventRow:
    """Return the event of a row whose first columns are EVENT_COLUMNS."""
    values = dict(zip(EVENT_NAMES, row, strict=False))
    values["type"] = EventType(values["type"])
    return construct_unchecked(EventRow, values)


def logged_event(row: Sequence[Any]) -> LoggedEvent:
    """Return the event of a row of BY_NUMBER."""
    seq, payload, size = row[len(EVENT_NAMES) :]
    return LoggedEvent(seq=seq, event=event_from_row(row), payload=payload_text(payload), payload_bytes=size)
