"""The endpoint of a task's history: every entry, oldest first, in pages that are bounded in bytes."""

from bisect import insort
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter

from starlette.responses import Response

from service.api.authentication import Caller
from service.api.delivery_views import history_object
from service.api.pages import PageBody
from service.api.query_params import cursor_of
from service.domain.error_kinds import with_error_kind
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Json, Status, Task, TaskId
from service.domain.task_view import parse_time, rfc3339

KIND = "history"
EVENTS_AT_ONCE = 4
"""Number of events whose data are read at once."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def history_page(
    queries: TaskQueries,
    task_id: TaskId,
    caller: Caller,
    *,
    cursor: str | None,
    metadata: bool,
    waiting: Json | None,
    pause: Callable[[int], Awaitable[None]],
) -> Response:
    """Return a page of the history for `caller` after the position `cursor`, with a `pause` between its steps.

    With `metadata` false the tasks in the events have no metadata. `waiting` is the entry of what the task waits for
    now, see `waiting_entry`. The position is a time and the number of entries at
    that time, so that neither new entries nor deleted ones move it.
    """
    entries = await queries.history(task_id, data=False)
    if waiting:
        insort(entries, waiting, key=itemgetter("at"))
    begin = _index(entries, cursor)
    page = PageBody()
    for index in range(begin, len(entries)):
        if (index - begin) % EVENTS_AT_ONCE == 0:
            await pause(page.size)
            await _load_data(queries, entries[index : index + EVENTS_AT_ONCE], metadata=metadata)
        if not page.add(history_object(entries[index], caller)):
            return page.response(cursor_of(KIND, _position(entries, index)))
    return page.response(None)


def waiting_entry(task: Task, now: datetime) -> Json | None:
    """Return the entry of what a queued task waits for now, from its note; None for a task that does not wait."""
    if task.status is not Status.QUEUED or not task.note:
        return None
    begin = min(task.due_at or task.created_at, now)
    times = {"at": rfc3339(begin), "last_at": rfc3339(now)}
    return {**times, "kind": "wait", "reason": "waiting", "count": 1, "detail": task.note}


async def _load_data(queries: TaskQueries, entries: Sequence[Json], *, metadata: bool) -> None:
    """Add the data of the events among `entries`."""
    events = {entry["id"]: entry for entry in entries if entry["kind"] == "event"}
    found = await queries.event_data(list(events)) if events else {}
    for event_id, data in found.items():
        events[event_id]["data"] = with_error_kind(data if metadata else _without_metadata(data))


def _without_metadata(data: Json) -> Json:
    return {name: value for name, value in data.items() if name != "metadata"}


def _position(entries: Sequence[Json], index: int) -> str:
    """Return the position before the entry `index`: its milliseconds, and how many entries of that time precede it."""
    at = entries[index]["at"]
    return f"{_milliseconds(at)}-{sum(1 for entry in entries[:index] if entry['at'] == at)}"


def _index(entries: Sequence[Json], cursor: str | None) -> int:
    """Return the index of the first entry after the position `cursor`."""
    if cursor is None:
        return 0
    milliseconds, _, count = cursor.partition("-")
    at, skipped = int(milliseconds), int(count)
    for index, entry in enumerate(entries):
        entry_at = _milliseconds(entry["at"])
        if entry_at > at or (entry_at == at and skipped == 0):
            return index
        skipped -= entry_at == at
    return len(entries)


def _milliseconds(text: str) -> int:
    at = parse_time(text) or EPOCH
    return (at - EPOCH) // timedelta(milliseconds=1)
