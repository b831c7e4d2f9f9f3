"""The tasks that long polls and event streams of this process watch; the store makes them known to all processes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.ports.queues import WatchedTasks
from service.domain.ports.signals import Clock
from service.domain.task import TaskId

WATCH_TIME = timedelta(seconds=30)
"""How long a task counts as watched without renewal: longer than the gap between two waits of one client."""

RENEW_BEFORE = timedelta(seconds=15)
"""Rest of that time from which it is renewed, together with all others that are not fresh: one write serves all."""

FRESH = timedelta(seconds=25)


@dataclass(kw_only=True, slots=True, eq=False)
class TaskWatch:
    """Counts who watches a task. `renew` stores it: nothing is written when a watch begins or ends."""

    store: WatchedTasks
    clock: Clock
    _watching: Counter[TaskId] = field(init=False, default_factory=Counter)
    _until: dict[TaskId, datetime] = field(init=False, default_factory=dict)  # as stored
    _new: set[TaskId] = field(init=False, default_factory=set)

    @contextmanager
    def watching(self, task_id: TaskId) -> Iterator[None]:
        """Watch the task inside the block; it may be as short as a request."""
        self._watching[task_id] += 1
        self._new.add(task_id)
        try:
            yield
        finally:
            self._watching[task_id] -= 1
            if not self._watching[task_id]:
                del self._watching[task_id]

    async def renew(self) -> int:
        """Store which tasks are watched now, or were since the last call, if that is not stored; return how many."""
        now = self.clock.now()
        self._until = {each: until for each, until in self._until.items() if now < until <= now + WATCH_TIME}
        rest = {each: self._until.get(each, now) - now for each in {*self._watching, *self._new}}
        if not any(left <= RENEW_BEFORE for left in rest.values()):
            self._new.clear()
            return 0
        due, until = [each for each, left in rest.items() if left < FRESH], now + WATCH_TIME
        await self.store.watch(due, until=until)
        self._new.clear()
        self._until |= dict.fromkeys(due, until)
        return len(due)
