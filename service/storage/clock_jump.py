"""Repair of due times and leases that are too far in the future, after the system clock moved backwards."""

from datetime import datetime

from sqlalchemy import Select, Table, Update, select, update

from service.storage.control_tables import circuits
from service.storage.database import Database
from service.storage.delivery_tables import IS_PENDING, deliveries
from service.storage.handler_jobs import TOPIC
from service.storage.handler_tables import handler_jobs
from service.storage.tables import OPEN, submission_pauses, tasks, watched_tasks


class SqlClockJumpRepair:
    """Implements `ClockJumpRepair`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def repair(self, *, now: datetime, until: datetime) -> int:
        """Make rows that are due later due at `now`, and end leases at `until` at the latest; return how many rows.

        The holder of a lease renews it while it works. Rows that have ended do not change. What counts from a time is
        counted from `now`: the polls of watched tasks, and the pause of submissions, which the next accepted one ends.
        """
        pending = select(deliveries.c.id).where(IS_PENDING).order_by(deliveries.c.id)
        task_ids = select(tasks.c.id).order_by(tasks.c.id)  # every transaction locks in this order: no deadlock
        jobs = select(handler_jobs.c.id).order_by(handler_jobs.c.id)
        watched = select(watched_tasks.c.task_id).order_by(watched_tasks.c.task_id)
        keys = select(circuits.c.key).order_by(circuits.c.key)
        statements = [
            _update(tasks, task_ids.where(OPEN, tasks.c.due_at > now), due_at=now),
            _update(tasks, task_ids.where(tasks.c.leased_until > until), leased_until=until),
            _update(deliveries, pending.where(deliveries.c.due_at > now), due_at=now),
            _update(deliveries, pending.where(deliveries.c.leased_until > until), leased_until=until),
        ]
        others = [
            _update(handler_jobs, jobs.where(handler_jobs.c.due_at > now), due_at=now),
            _update(handler_jobs, jobs.where(handler_jobs.c.leased_until > until), leased_until=until),
            _update(watched_tasks, watched.where(watched_tasks.c.until > until), until=until),
            _update(watched_tasks, watched.where(watched_tasks.c.polled_at > now), polled_at=now),
            _update(circuits, keys.where(circuits.c.retry_at > now), retry_at=now, changed_at=now),
            update(submission_pauses)
            .where(submission_pauses.c.refused_at > now)
            .values(since=now, refused_at=now, resume_at=now),
        ]
        async with self._database.writing() as write:
            changed = [await write.connection.execute(statement) for statement in statements]
            for statement in others:
                await write.connection.execute(statement)
            write.topics.update({"submit", "reconcile", "dispatch", TOPIC})
        return sum(result.rowcount for result in changed)


def _update(table: Table, ids: Select[str], **values: datetime) -> Update:
    [key] = table.primary_key
    return update(table).where(key.in_(ids.with_for_update())).values(values)
