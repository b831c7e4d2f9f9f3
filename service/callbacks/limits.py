"""Limits on callbacks: bursts, and how much is stored for one task."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from service.domain.task import TaskId

BURST_RATE = 100
"""Callbacks a second up to which each is recorded before it is answered; those of a burst are stored first."""


@dataclass(kw_only=True)
class BurstDetector:
    """Detects bursts with a leaky bucket of `rate` callbacks a second, which must drain again after a burst."""

    rate: int = BURST_RATE
    level: float = 0.0
    at: datetime | None = None

    def observe(self, now: datetime) -> bool:
        """Count one more callback at `now`; return whether it belongs to a burst."""
        passed = (now - self.at).total_seconds() if self.at else 0.0
        self.level = min(max(0.0, self.level - max(0.0, passed) * self.rate) + 1, 2.0 * self.rate)
        self.at = now
        return self.level > self.rate


UNCOUNTED = 4
"""Callbacks of a task that each process stores without counting what the inbox holds: most tasks have no more."""

UNCOUNTED_BYTES = 16 * 1024
"""Bytes that these callbacks have together at most."""


@dataclass(kw_only=True)
class TaskQuota:
    """Per-task limit on stored callbacks, so that a token holder cannot fill the disk.

    A provider sends a few dozen callbacks of a few KB. The first few of a task are stored without asking the inbox,
    which takes as long as storing them. Then what is stored of the task is counted from the inbox, and from then on in
    this process, for the last `tasks` tasks that were called back.
    """

    max_callbacks: int = 256
    max_bytes: int = 16 * 1024 * 1024
    tasks: int = 10_000
    used: OrderedDict[TaskId, tuple[int, int]] = field(default_factory=OrderedDict)
    uncounted: OrderedDict[TaskId, tuple[int, int]] = field(default_factory=OrderedDict)

    def needs_count(self, task_id: TaskId, size: int) -> bool:
        """Return whether `begin` must be called before one more callback of `size` bytes is admitted."""
        if task_id in self.used:
            return False
        count, total = self.uncounted.get(task_id, (0, 0))
        return count >= UNCOUNTED or total + size > UNCOUNTED_BYTES

    def begin(self, task_id: TaskId, stored: tuple[int, int]) -> None:
        """Count from the number and the bytes of the `stored` callbacks, unless the task is counted already."""
        self.uncounted.pop(task_id, None)
        self.used.setdefault(task_id, stored)

    def admits(self, task_id: TaskId, size: int) -> bool:
        """Count one more callback of `size` bytes; return whether it may be stored."""
        counts = self.used if task_id in self.used else self.uncounted
        count, total = counts.pop(task_id, (0, 0))
        fits = count < self.max_callbacks and total + size <= self.max_bytes
        counts[task_id] = (count + 1, total + size) if fits else (count, total)
        if len(counts) > self.tasks:
            counts.popitem(last=False)
        return fits
