"""A request that keeps the process running, how long it may, and whether it has to."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.task import Status, Task, TaskId

WORK_SECONDS = 22.0
"""Seconds that a request waits for work. What is running then is ended and recorded in CLOSE_SECONDS.

Together they are less than 25 seconds, within which the request is answered: routers end requests after 30.
"""

CLOSE_SECONDS = 2.5

LAST_STARTS = 6.0
"""Seconds before the end of that time from which on nothing new starts for a request."""

COUNTED_AFTER = timedelta(seconds=10)
"""How long a delivery must have run so that its end counts as a failed attempt: a slow one must not go on forever."""

CUT_SHORT = "no end before the request was answered that kept the process running (BOOMERANG_SERVERLESS)"

CHECK_INTERVAL = 0.5
"""Seconds between two searches for due work while a request is open."""


@dataclass(kw_only=True, eq=False)
class OpenRequest:
    """A request that keeps the process running; `task_id` None waits for everything that is due.

    Nothing starts for it after `starts_until`, and it is answered by `ends_at`, in seconds of the loop's time. One that
    is `held` is not answered yet even if nothing is left to do. `counts` are the numbers of what was started meanwhile.
    """

    task_id: TaskId | None
    starts_until: float
    ends_at: float
    held: bool
    answerable: asyncio.Event = field(default_factory=asyncio.Event)
    counts: Counter[str] = field(default_factory=Counter)


def is_task_due(task: Task, now: datetime) -> bool:
    """Return whether a submission or a poll of the task is due, or its submission was left by a process that ended."""
    if task.leased_until is not None and task.leased_until > now:
        return False
    return task.status is Status.SUBMITTING or (task.due_at is not None and task.due_at <= now)
