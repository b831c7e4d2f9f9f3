"""What tasks waited for: one row for each task and reason, however often it waited."""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import Insert, func

from service.domain.task_wait import WaitRow
from service.storage.async_engine import AsyncConnection
from service.storage.dialects import insert_into
from service.storage.tables import task_waits


async def add_task_waits(connection: AsyncConnection, rows: Sequence[WaitRow]) -> None:
    """Add `rows`, one at most for each task and reason, to those that are stored."""
    in_order = sorted(rows, key=lambda row: (row.task_id, row.reason))
    await connection.execute(_upsert(connection.dialect.name), [vars(row) for row in in_order])


@cache
def _upsert(dialect: str) -> Insert:
    """Return the statement, which is built once: under load every reply stores what its task waited for."""
    statement = insert_into(task_waits, dialect)
    new = statement.excluded
    values = {
        "count": task_waits.c.count + new["count"],
        "last_at": new["last_at"],
        "detail": func.coalesce(new["detail"], task_waits.c.detail),
    }
    return statement.on_conflict_do_update(index_elements=["task_id", "reason"], set_=values)
