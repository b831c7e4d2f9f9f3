"""The endpoint of a task's history: every entry, oldest first, in pages that are bounded in bytes."""

from bisect import bisect
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from starlette.responses import Response

from service.api.authentication import Caller
from service.api.delivery_views import history_object
from service.api.pages import PageBody
from service.api.query_params import cursor_of
from service.domain.error_kinds import with_error_kind
from service.domain.history_position import HistoryEntry, HistoryKind, HistoryPosition, order
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Json, Status, Task, TaskId
from service.domain.task_view import rfc3339

KIND = "history"
ENTRIES_AT_ONCE = 500
"""Number of entries that are read at once."""

EVENTS_AT_ONCE = 4
"""Number of events whose data are read at once."""


async def history_page(
    queries: TaskQueries,
    task_id: TaskId,
    caller: Caller,
    *,
    after: HistoryPosition | None,
    metadata: bool,
    waiting: HistoryEntry | None,
    pause: Callable[[int], Awaitable[None]],
) -> Response:
    """Return a page of the history for `caller` after a position, with a `pause` between its steps.

    With `metadata` false the tasks in the events have no metadata. `waiting` is the entry of what the task waits for
    now, see `waiting_entry`.
    """
    page = PageBody()
    while True:
        entries = await queries.history(task_id, after=after, limit=ENTRIES_AT_ONCE)
        is_last = len(entries) < ENTRIES_AT_ONCE
        if waiting and (after is None or order(after) < order(waiting.position)):
            index = bisect(entries, order(waiting.position), key=lambda entry: order(entry.position))
            if index < len(entries) or is_last:
                entries.insert(index, waiting)
        for index, entry in enumerate(entries):
            if index % EVENTS_AT_ONCE == 0:
                await pause(page.size)
                await _load_data(queries, entries[index : index + EVENTS_AT_ONCE], metadata=metadata)
            if not page.add(history_object(entry.row, caller)):
                return page.response(cursor_of(KIND, str(after)))
            after = entry.position
        if is_last:
            return page.response(None)


def waiting_entry(task: Task, now: datetime) -> HistoryEntry | None:
    """Return the entry of what a queued task waits for now, from its note; None for a task that does not wait.

    The wait begins with the last submission in vain, else with the creation of the task.
    """
    if task.status is not Status.QUEUED or not task.note:
        return None
    begin = min(task.submitted_at or task.created_at, now)
    times = {"at": rfc3339(begin), "last_at": rfc3339(now)}
    row = {**times, "kind": "wait", "reason": "waiting", "count": 1, "detail": task.note}
    return HistoryEntry(position=HistoryPosition(at=begin, kind=HistoryKind.WAITING), row=row)


async def _load_data(queries: TaskQueries, entries: Sequence[HistoryEntry], *, metadata: bool) -> None:
    """Add the data of the events among `entries`."""
    events = {entry.row["id"]: entry.row for entry in entries if entry.row["kind"] == "event"}
    found = await queries.event_data(list(events)) if events else {}
    for event_id, data in found.items():
        events[event_id]["data"] = with_error_kind(data if metadata else _without_metadata(data))


def _without_metadata(data: Json) -> Json:
    return {name: value for name, value in data.items() if name != "metadata"}
