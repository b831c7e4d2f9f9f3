"""What waits for a time that is too far away, since the clock was put back."""

from datetime import datetime

from sqlalchemy import Select, Table, Update, select, update

from service.storage.database import Database
from service.storage.tables import IS_PENDING, OPEN, deliveries, tasks


class SqlClockJumpRepair:
    """Implements `Recall`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def clock_jump_repair(self, *, now: datetime, until: datetime) -> int:
        """Make due at `now` what is due later, and let no lease live past `until`; return how many rows that were.

        Living holders of a lease renew it. What has ended is left alone.
        """
        async with self._database.writing() as write:
            changed = [await write.connection.execute(statement) for statement in _statements(now, until)]
            write.topics.update({"submit", "reconcile", "dispatch"})
        return sum(result.rowcount for result in changed)


def _statements(now: datetime, until: datetime) -> list[Update]:
    pending = select(deliveries.c.id).where(IS_PENDING).order_by(deliveries.c.id)
    task_ids = select(tasks.c.id).order_by(tasks.c.id)  # everybody locks in this order: no deadlock
    return [
        _changed(tasks, task_ids.where(OPEN, tasks.c.due_at > now), due_at=now),
        _changed(tasks, task_ids.where(tasks.c.leased_until > until), leased_until=until),
        _changed(deliveries, pending.where(deliveries.c.due_at > now), due_at=now),
        _changed(deliveries, pending.where(deliveries.c.leased_until > until), leased_until=until),
    ]


def _changed(table: Table, wanted: Select[str], **values: datetime) -> Update:
    return update(table).where(table.c.id.in_(wanted.with_for_update())).values(values)
