"""What tasks waited for: one row for each task and reason, however often it waited."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import func

from service.domain.task_wait import WaitRow
from service.storage.async_engine import AsyncConnection
from service.storage.dialects import insert
from service.storage.tables import task_waits


async def add_task_waits(connection: AsyncConnection, rows: Sequence[WaitRow]) -> None:
    """Add `rows`, one at most for each task and reason, to those that are stored."""
    statement = insert(connection, task_waits)
    new = statement.excluded
    values = {
        "count": task_waits.c.count + new["count"],
        "last_at": new["last_at"],
        "detail": func.coalesce(new["detail"], task_waits.c.detail),
    }
    upsert = statement.on_conflict_do_update(index_elements=["task_id", "reason"], set_=values)
    await connection.execute(upsert, [asdict(row) for row in sorted(rows, key=lambda row: (row.task_id, row.reason))])
