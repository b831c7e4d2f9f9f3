"""Run times of tasks, and the number of these tasks that ended without a callback."""

from sqlalchemy import String, bindparam, func, select, text

from service.domain.poll_schedule import CallbackStats
from service.domain.ports.unit_of_work import RunTime
from service.storage.database import Database
from service.storage.tables import run_times

NEWEST_FIRST = run_times.c.seq.desc()

BUCKETS = text(
    """
    WITH RECURSIVE known(bucket) AS (
        SELECT min(bucket) FROM run_times
        UNION ALL
        SELECT (SELECT min(bucket) FROM run_times WHERE bucket > known.bucket) FROM known WHERE known.bucket IS NOT NULL
    )
    SELECT bucket FROM known WHERE bucket IS NOT NULL
    """
)
"""Reads one entry of the index for each bucket: the number of run times does not matter."""

OF_BUCKET = bindparam("of_bucket", type_=String())
NEWEST_OF_BUCKET = (
    select(run_times.c.bucket, run_times.c.seconds, run_times.c.called_back, run_times.c.at)
    .where(run_times.c.bucket.between(OF_BUCKET, OF_BUCKET))
    .order_by(run_times.c.bucket.desc(), run_times.c.at.desc(), NEWEST_FIRST)
)
"""A range and an order that only the index by bucket has: PostgreSQL would look for a rare bucket in that of times."""


class SqlRunTimeStats:
    """Implements `RunTimeStats`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_times(self, *, per_bucket: int) -> list[RunTime]:
        """Return the newest `per_bucket` run times of each bucket, oldest first; no other rows are read."""
        found: list[RunTime] = []
        async with self._database.reading() as connection:
            for bucket in (await connection.execute(BUCKETS)).scalars().all():
                rows = await connection.execute(NEWEST_OF_BUCKET.limit(per_bucket), {"of_bucket": bucket})
                found += reversed([RunTime(**row) for row in rows.mappings()])
        return sorted(found, key=lambda each: each.at)

    async def callback_stats(self, *, newest: int) -> CallbackStats:
        """Count the `newest` tasks with a run time, and those of them whose end no callback reported."""
        last = select(run_times.c.called_back).order_by(NEWEST_FIRST).limit(newest).subquery()
        counts = select(func.count(), func.count().filter(~last.c.called_back)).select_from(last)
        async with self._database.reading() as connection:
            count, lost = (await connection.execute(counts)).one()
            return CallbackStats(count=count, lost=lost)
