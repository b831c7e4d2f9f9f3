"""The whole history of a task from its parts."""

from service.domain.history_position import HistoryPosition
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Json, TaskId

PART = 7
"""Entries of a part, few: tests with a longer history read several."""


async def history_of(queries: TaskQueries, task_id: str, *, data: bool = True) -> list[Json]:
    """Return every entry of a task's history, oldest first, as plain JSON; without `data` events have none."""
    rows: list[Json] = []
    after: HistoryPosition | None = None
    while True:
        part = await queries.history(TaskId(task_id), after=after, limit=PART)
        rows += [entry.row for entry in part]
        if len(part) < PART:
            break
        after = part[-1].position
    events = {row["id"]: row for row in rows if row["kind"] == "event"}
    if data and events:
        for event_id, found in (await queries.event_data(list(events))).items():
            events[event_id]["data"] = found
    return rows
