"""The log of events, in the order of their commits."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, func, select

from service.domain.ports.unit_of_work import EventRow
from service.domain.task import EventType, TaskId
from service.storage.database import Database
from service.storage.tables import events

EVENT_COLUMNS = (events.c.id, events.c.task_id, events.c.client, events.c.type, events.c.at, events.c.data)


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """An event with its number in the log; numbers start at 1 and grow, with gaps."""

    seq: int
    event: EventRow


class SqlEventLog:
    """Reads the log of events; a reader that resumes after its highest `seq` misses no event."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def after(
        self,
        seq: int,
        *,
        client: str | None = None,
        task_id: TaskId | None = None,
        types: Sequence[EventType] = (),
        limit: int = 100,
    ) -> list[LoggedEvent]:
        """Return the next events after `seq`, at most `limit`; `client` None selects all clients."""
        query = select(events.c.seq, *EVENT_COLUMNS).where(events.c.seq > seq)
        if client is not None:
            query = query.where(events.c.client == client)
        if task_id is not None:
            query = query.where(events.c.task_id == task_id)
        if types:
            query = query.where(events.c.type.in_([one.value for one in types]))
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(events.c.seq).limit(limit))
            return [LoggedEvent(seq=row[events.c.seq], event=event_from_row(row)) for row in rows.mappings()]

    async def last(self) -> int:
        """Return the highest `seq`, 0 if there is no event yet."""
        async with self._database.reading() as connection:
            highest = (await connection.execute(select(func.max(events.c.seq)))).scalar()
            return highest or 0


def event_from_row(row: RowMapping) -> EventRow:
    """Return the event of a row that has EVENT_COLUMNS."""
    values = {column.name: row[column] for column in EVENT_COLUMNS}
    return EventRow(**(values | {"type": EventType(row[events.c.type])}))
