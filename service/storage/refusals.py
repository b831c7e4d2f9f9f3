"""Refused callbacks that name a task: one row for each task and reason."""

from collections.abc import Sequence
from operator import attrgetter

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.ports.refusals import Refusal
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.tables import refused_callbacks, tasks

NAMED = select(tasks.c.id, tasks.c.submission).where(in_list(tasks.c.id, "ids"))


def _add(insert: postgresql.Insert | sqlite.Insert) -> postgresql.Insert | sqlite.Insert:
    """Return `insert` of a row, or the addition to the row that is there."""
    count = refused_callbacks.c.count + insert.excluded.count
    changed = {"count": count, "last_at": insert.excluded.last_at}
    return insert.on_conflict_do_update(index_elements=["task_id", "reason"], set_=changed)


ADD = {"sqlite": _add(sqlite.insert(refused_callbacks)), "postgresql": _add(postgresql.insert(refused_callbacks))}


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
                ordered = sorted(known, key=attrgetter("task_id", "reason"))  # one order: no deadlock
                await write.connection.execute(ADD[write.connection.dialect.name], [vars(one) for one in ordered])
        return len(known)
