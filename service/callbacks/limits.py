"""Bounds on callbacks: bursts, and how much one task may store."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from service.domain.task import TaskId

FEW = 100
"""Callbacks a second that are recorded by the commit that makes them durable; those of a crowd are kept first."""


@dataclass(kw_only=True)
class BurstDetector:
    """Tells whether callbacks come by the crowd: a bucket that `few` a second leak from, and that must drain again."""

    few: int = FEW
    level: float = 0.0
    at: datetime | None = None

    def observe(self, now: datetime) -> bool:
        """Count one more callback at `now`; return whether it is one of a crowd."""
        passed = (now - self.at).total_seconds() if self.at else 0.0
        self.level = min(max(0.0, self.level - max(0.0, passed) * self.few) + 1, 2.0 * self.few)
        self.at = now
        return self.level > self.few


@dataclass(kw_only=True)
class TaskQuota:
    """How much of each task's mail is kept: whoever holds its token may send without end, and fills no disk.

    An honest upstream sends some tens of callbacks of some KB. Counted in this process, for the `tasks` that were
    called back about last.
    """

    most: int = 256
    most_bytes: int = 16 * 1024 * 1024
    tasks: int = 10_000
    taken: OrderedDict[TaskId, tuple[int, int]] = field(default_factory=OrderedDict)

    def admits(self, task_id: TaskId, size: int) -> bool:
        """Count one more callback of `size` bytes; return whether it may be kept."""
        count, total = self.taken.pop(task_id, (0, 0))
        fits = count < self.most and total + size <= self.most_bytes
        self.taken[task_id] = (count + 1, total + size) if fits else (count, total)
        if len(self.taken) > self.tasks:
            self.taken.popitem(last=False)
        return fits
