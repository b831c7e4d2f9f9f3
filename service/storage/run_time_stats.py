"""Run times of tasks, and the number of these tasks that ended without a callback."""

from sqlalchemy import func, select

from service.domain.poll_schedule import CallbackStats
from service.domain.ports.unit_of_work import RunTime
from service.storage.database import Database
from service.storage.tables import run_times

NEWEST_FIRST = run_times.c.seq.desc()


class SqlRunTimeStats:
    """Implements `RunTimeStats`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_times(self, *, per_bucket: int) -> list[RunTime]:
        """Return the newest `per_bucket` run times of each bucket, oldest first."""
        newest = func.row_number().over(partition_by=run_times.c.bucket, order_by=(run_times.c.at.desc(), NEWEST_FIRST))
        ranked = select(run_times, newest.label("place")).subquery()
        query = select(ranked.c.bucket, ranked.c.seconds, ranked.c.called_back, ranked.c.at)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.where(ranked.c.place <= per_bucket).order_by(ranked.c.at))
            return [RunTime(**row) for row in rows.mappings()]

    async def callback_stats(self, *, newest: int) -> CallbackStats:
        """Count the `newest` tasks with a run time, and those of them whose end no callback reported."""
        last = select(run_times.c.called_back).order_by(NEWEST_FIRST).limit(newest).subquery()
        counts = select(func.count(), func.count().filter(~last.c.called_back)).select_from(last)
        async with self._database.reading() as connection:
            count, lost = (await connection.execute(counts)).one()
            return CallbackStats(count=count, lost=lost)
