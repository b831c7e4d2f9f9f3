"""Refused callbacks that name a task: one row for each task and reason."""

from collections.abc import Sequence
from operator import attrgetter

from sqlalchemy import select

from service.domain.ports.refusals import Refusal
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.dialects import insert
from service.storage.tables import refused_callbacks, tasks

NAMED = select(tasks.c.id, tasks.c.submission).where(in_list(tasks.c.id, "ids"))


class SqlRefusals:
    """Implements `RefusalLog`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, refusals: Sequence[Refusal]) -> int:
        """Add `refusals` to the rows of their tasks and reasons; return how many name a known submission."""
        async with self._database.reading() as connection:
            rows = await connection.execute(NAMED, {"ids": {one.task_id for one in refusals}})
            newest = {row.id: row.submission for row in rows}
        known = [one for one in refusals if one.submission <= newest.get(one.task_id, -1)]
        if known:
            async with self._database.writing() as write:
                statement = insert(write.connection, refused_callbacks)
                new = statement.excluded
                values = {"count": refused_callbacks.c.count + new["count"], "last_at": new["last_at"]}
                upsert = statement.on_conflict_do_update(index_elements=["task_id", "reason"], set_=values)
                ordered = sorted(known, key=attrgetter("task_id", "reason"))  # one order: no deadlock
                await write.connection.execute(upsert, [vars(one) for one in ordered])
        return len(known)
