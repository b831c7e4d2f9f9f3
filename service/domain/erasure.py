"""What stays of a task that is erased: id, times, cost and how it ended. Only computes."""

from datetime import datetime

from service.domain.errors import Conflict
from service.domain.fast_copy import replace_fields
from service.domain.task import Json, Status, Task, TaskError
from service.domain.task_view import TIMES

ERASED = "erased"
"""The text in place of one that may repeat the prompt."""

NEVER_DELIVERED = "the task was erased before this delivery was made; it is not made any more"

KEPT = frozenset(
    {
        "id",
        "client",
        "model",
        "status",
        "upstream_id",
        "progress",
        "usage",
        "settled_by",
        "unconfirmed",
        "resubmission_of",
        *TIMES,
    }
)
"""What stays of the task in its events."""


def require_erasable(task: Task) -> None:
    """Raise Conflict with the reason unless the task has ended: something could still be recorded about it."""
    if task.settled:
        return
    if task.status is not Status.EXPIRED:
        raise Conflict(f"the task is {task.status.value}: cancel it, or wait until it is settled, then delete it")
    if task.due_at is not None:
        raise Conflict("the task has expired and its outcome is still asked for: delete it later")


def erased(task: Task, now: datetime) -> Task:
    """Return the task without inputs, metadata, results, and texts of the provider; nothing is recorded any more."""
    return replace_fields(
        task,
        params={},
        metadata={},
        notify=(),
        output=(),
        error=task.error and TaskError(code=task.error.code, message=ERASED),
        warnings=(),
        hinted_fact=None,
        status_word=None,
        status_since=None,
        note=None,
        due_at=None,
        erased_at=now,
    )


def erased_event(data: Json) -> Json:
    """Return the data of an event without what `erased` removes from its task."""
    error = data.get("error")
    return {name: value for name, value in data.items() if name in KEPT} | {
        "params": {},
        "metadata": {},
        "output": [],
        "error": {**error, "message": ERASED} if error else None,
        "warnings": [],
        "note": None,
    }
