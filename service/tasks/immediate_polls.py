"""The questions that are born in hand: asked right after the commit that made them due, as long as there is room.

A task that is due for a question when it is written, by a callback mostly, is leased by the same commit where this
process asks: nobody has to look for it. All others wait in the store for a round that claims them.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.fast_copy import replace_fields
from service.domain.task import Status, Task, TaskId

NOT_POLLED = frozenset({Status.QUEUED, Status.SUBMITTING})
"""Tasks of which the upstream knows nothing yet, or whose submission is under way."""


@dataclass(kw_only=True, eq=False)
class PollReservations:
    """The questions of one transaction for which room is kept."""

    immediate_polls: "ImmediatePolls" = field(repr=False)
    tasks: list[Task] = field(default_factory=list)

    def lease(self, task: Task, now: datetime) -> Task:
        """Return the task, leased if it is due for a question and there is room for it."""
        if not _due(task, now) or not self.immediate_polls.reserve(self):
            return task
        leased = replace_fields(task, leased_until=now + self.immediate_polls.lease, fence=task.fence + 1)
        self.tasks.append(leased)
        return leased

    @property
    def ids(self) -> set[TaskId]:
        """Return which tasks are leased."""
        return {task.id for task in self.tasks}


class ImmediatePolls:
    """Keeps room for the questions of transactions under way, and asks them once they are committed.

    `lease` is how long a claim lives without renewal. Nothing is born in hand until `open` says who asks.
    """

    def __init__(self, *, lease: timedelta) -> None:
        self.lease = lease
        self.kept = 0
        self._room: Callable[[], int] | None = None
        self._poll_once: Callable[[Task], object] | None = None
        self._unborn: set[PollReservations] = set()
        self._ended = asyncio.Event()

    def open(self, room: Callable[[], int], ask: Callable[[Task], object]) -> None:
        """Let questions be born in hand, as many more as `room` says; `ask` is called with each after its commit."""
        self._room, self._poll_once = room, ask

    async def close(self) -> None:
        """Let no more be born in hand, and wait until those under way are asked or came to nothing."""
        self._room = None
        while self._unborn:
            self._ended.clear()
            await self._ended.wait()

    def reserve(self, born: PollReservations) -> bool:
        """Keep room for one more question of a transaction; return whether there was any."""
        if self._room is None or self._room() <= self.kept:
            return False
        self.kept += 1
        self._unborn.add(born)
        return True

    @contextmanager
    def reservations(self) -> Iterator[PollReservations]:
        """Yield what leases tasks inside the block, a transaction; leaving it in order asks about them."""
        born = PollReservations(immediate_polls=self)
        try:
            yield born
        finally:
            self.kept -= len(born.tasks)
            self._unborn.discard(born)
            self._ended.set()
        for task in born.tasks:
            if self._poll_once:
                self._poll_once(task)


def _due(task: Task, now: datetime) -> bool:
    if task.due_at is None or task.due_at > now or task.leased_until is not None:
        return False
    return task.status not in NOT_POLLED
