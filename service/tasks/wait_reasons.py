"""Why submissions could not start, as this process saw it last: the history shows what a task waited for."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.task import Task
from service.domain.task_wait import Wait, WaitReason, wait_detail

MIN_WAIT = timedelta(seconds=5)
"""Shorter waits are not in the history."""


@dataclass(kw_only=True, slots=True, eq=False)
class WaitReasons:
    """When this process last saw each reason for which submissions waited."""

    _seen: dict[WaitReason, datetime] = field(init=False, default_factory=dict)

    def note(self, reason: WaitReason, now: datetime) -> None:
        """Note that submissions wait for `reason`."""
        self._seen.pop(reason, None)
        self._seen[reason] = now

    def waits_of(self, task: Task) -> tuple[Wait, ...]:
        """Return the wait of a claimed task that could have been submitted MIN_WAIT earlier, or nothing.

        Its reason is the last one that was seen while it waited.
        """
        begin, end = task.due_at, task.submitted_at
        if begin is None or end is None or end < begin + MIN_WAIT:
            return ()
        seen = (name for name, at in reversed(self._seen.items()) if at >= begin)
        reason: WaitReason = next(seen, "queue")
        return (Wait(reason=reason, first_at=begin, last_at=end, detail=wait_detail(reason)),)
