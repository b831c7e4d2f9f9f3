"""The jobs of handlers: one row for each key, claimed with a lease and a fence."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, and_, bindparam, delete, or_, select, update

from service.domain.ports.handler_store import JobClaim, NewJob
from service.storage.column_types import UtcDateTime, in_list
from service.storage.database import Database
from service.storage.dialects import advisory_lock, insert, prefer_order_of_indexes
from service.storage.handler_tables import IS_WAITING, handler_jobs

TOPIC = "handler_jobs"

NOW = bindparam("now", type_=UtcDateTime())
FULL_NAME = handler_jobs.c.handler + "/" + handler_jobs.c.name
UNLEASED = handler_jobs.c.leased_until.is_(None) | (handler_jobs.c.leased_until <= NOW)
# Both read due jobs of handlers that no process of this release loads, too: those wait for their handler to return,
# and are as few as the keys that it has scheduled. An index that begins with the name would cost each job an entry.
DUE = (
    select(handler_jobs.c.id)
    .where(IS_WAITING, handler_jobs.c.due_at <= NOW, UNLEASED, in_list(FULL_NAME, "jobs"))
    .order_by(handler_jobs.c.due_at)
    .limit(bindparam("limit"))
)
CLAIMED = DUE.with_for_update(skip_locked=True)
NEXT = (
    select(handler_jobs.c.due_at)
    .where(IS_WAITING, handler_jobs.c.leased_until.is_(None), in_list(FULL_NAME, "jobs"))
    .order_by(handler_jobs.c.due_at)
    .limit(1)
)
HELD = and_(handler_jobs.c.id == bindparam("of_id"), handler_jobs.c.fence == bindparam("of_fence"))


class SqlHandlerJobs:
    """Implements `HandlerJobStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def schedule(self, job: NewJob, *, now: datetime) -> datetime:
        """Store `job`, or renew the waiting one with its key; return when it is due."""
        own = and_(
            handler_jobs.c.handler == job.handler, handler_jobs.c.name == job.name, handler_jobs.c.key == job.key
        )
        async with self._database.writing() as write:
            await advisory_lock(write.connection, f"handler job {job.handler}/{job.name} {job.key}")
            query = select(handler_jobs).where(own).with_for_update()
            stored = (await write.connection.execute(query)).mappings().one_or_none()
            values = _values(job, stored, now)
            if stored is None:
                new = {"id": job.id, "handler": job.handler, "name": job.name, "key": job.key, "fence": 0}
                await write.connection.execute(insert(write.connection, handler_jobs), new | values)
            else:
                await write.connection.execute(update(handler_jobs).where(own).values(values))
            write.topics.add(TOPIC)
            due_at: datetime = values["due_at"]
            return due_at

    async def cancel(self, handler: str, name: str, key: str) -> bool:
        """Delete a job that waits; return whether there was one."""
        own = and_(handler_jobs.c.handler == handler, handler_jobs.c.name == name, handler_jobs.c.key == key)
        async with self._database.writing() as write:
            return (await write.connection.execute(delete(handler_jobs).where(own, IS_WAITING))).rowcount > 0

    async def claim(self, jobs: Collection[str], *, now: datetime, until: datetime, limit: int) -> list[JobClaim]:
        """Lease due jobs `until`, the longest due first, of those named `handler/name` in `jobs`."""
        given = {"jobs": list(jobs), "now": now, "limit": limit}
        async with self._database.reading() as connection:  # most of the time nothing is due
            prefer_order_of_indexes(connection)
            if (await connection.execute(DUE, given)).first() is None:
                return []
        leased = {
            "leased_until": until,
            "fence": handler_jobs.c.fence + 1,
            "attempts": handler_jobs.c.attempts + 1,
        }
        statement = update(handler_jobs).values(leased).where(in_list(handler_jobs.c.id, "ids"))
        async with self._database.writing() as write:
            prefer_order_of_indexes(write.connection)
            ids = (await write.connection.execute(CLAIMED, given)).scalars().all()
            if not ids:
                return []
            rows = (await write.connection.execute(statement.returning(handler_jobs), {"ids": ids})).mappings()
            return [_claim(row) for row in rows]

    async def next_due(self, jobs: Collection[str]) -> datetime | None:
        """Return when the next waiting job is due, None if there is none."""
        async with self._database.reading() as connection:
            prefer_order_of_indexes(connection)
            found: datetime | None = (await connection.execute(NEXT, {"jobs": list(jobs)})).scalar_one_or_none()
            return found

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Extend leases (job to fence); return the jobs whose leases are still held."""
        held = or_(*(and_(handler_jobs.c.id == key, handler_jobs.c.fence == fence) for key, fence in claims.items()))
        statement = update(handler_jobs).where(held, handler_jobs.c.leased_until.is_not(None))
        async with self._database.writing() as write:
            rows = await write.connection.execute(statement.values(leased_until=until).returning(handler_jobs.c.id))
            return set(rows.scalars())

    async def finish(self, claim: JobClaim) -> bool:
        """Delete the job, or keep it if it was requested again meanwhile; return whether the fence was current."""
        given = {"of_id": claim.id, "of_fence": claim.fence}
        unchanged = handler_jobs.c.revision == claim.revision
        async with self._database.writing() as write:
            if (await write.connection.execute(delete(handler_jobs).where(HELD, unchanged), given)).rowcount:
                return True
            again = update(handler_jobs).where(HELD).values(leased_until=None, attempts=0)
            write.topics.add(TOPIC)
            return (await write.connection.execute(again, given)).rowcount > 0

    async def postpone(self, claim: JobClaim, *, due_at: datetime | None, error: str, now: datetime) -> bool:
        """Make the next attempt due, or with `due_at` None keep the job as failed; return whether it was current.

        A job that was requested again meanwhile is due as it was requested.
        """
        given = {"of_id": claim.id, "of_fence": claim.fence}
        unchanged = handler_jobs.c.revision == claim.revision
        ended = {"leased_until": None, "error": error}
        failed_at = now if due_at is None else None
        async with self._database.writing() as write:
            statement = update(handler_jobs).where(HELD, unchanged)
            values = {**ended, "due_at": due_at, "failed_at": failed_at}
            if (await write.connection.execute(statement.values(values), given)).rowcount:
                write.topics.add(TOPIC)
                return True
            again = update(handler_jobs).where(HELD).values({**ended, "attempts": 0})
            write.topics.add(TOPIC)
            return (await write.connection.execute(again, given)).rowcount > 0

    async def release(self, claims: Mapping[str, int]) -> None:
        """Release leases whose fence is current; their attempts do not count."""
        statement = update(handler_jobs).where(HELD)
        released = statement.values(leased_until=None, attempts=handler_jobs.c.attempts - 1)
        if claims:
            async with self._database.writing() as write:
                rows = [{"of_id": key, "of_fence": claims[key]} for key in sorted(claims)]
                await write.connection.execute(released, rows)
                write.topics.add(TOPIC)

    async def prune(self, *, before: datetime) -> int:
        """Delete jobs that failed before then; return how many."""
        async with self._database.writing() as write:
            failed = handler_jobs.c.failed_at.is_not(None) & (handler_jobs.c.failed_at < before)
            return (await write.connection.execute(delete(handler_jobs).where(failed))).rowcount


def _values(job: NewJob, stored: RowMapping | None, now: datetime) -> dict[str, Any]:
    """Return the columns of a requested job; a waiting one that was not tried yet keeps the time of its request."""
    waits = stored is not None and stored["due_at"] is not None and not stored["attempts"]
    created_at = stored["created_at"] if stored is not None and waits else now
    latest = created_at + job.within if job.within is not None else job.due_at
    running = stored is not None and stored["leased_until"] is not None and stored["leased_until"] > now
    return {
        "data": job.data,
        "due_at": min(job.due_at, max(latest, now)),
        "revision": stored["revision"] + 1 if stored is not None else 1,
        "attempts": stored["attempts"] if stored is not None and running else 0,
        "created_at": created_at,
        "failed_at": None,
        "error": None,
    }


def _claim(row: RowMapping) -> JobClaim:
    return JobClaim(
        id=row["id"],
        fence=row["fence"],
        revision=row["revision"],
        attempt=row["attempts"],
        handler=row["handler"],
        name=row["name"],
        key=row["key"],
        data=row["data"],
        created_at=row["created_at"],
    )
