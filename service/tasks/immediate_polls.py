"""Polls that start right after the commit that made them due, while capacity is free.

The commit that makes a task due for a poll, mostly that of a callback, also leases the task where this process polls:
no job has to claim it. All other due tasks wait in the store until a job claims them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.concurrency.immediate_claims import ImmediateClaims
from service.domain.fast_copy import replace_fields
from service.domain.task import Status, Task

NOT_POLLED = frozenset({Status.QUEUED, Status.SUBMITTING})
"""Statuses of tasks that the provider does not know yet, or whose submission is running."""


@dataclass(kw_only=True, eq=False)
class PollReservations:
    """The polls for which one transaction reserves capacity."""

    immediate_polls: "ImmediatePolls" = field(repr=False)
    tasks: list[Task] = field(default_factory=list)

    def lease(self, task: Task, now: datetime) -> Task:
        """Return the task, leased if it is due for a poll and capacity is free."""
        due = task.due_at is not None and task.due_at <= now and task.leased_until is None
        if not due or task.status in NOT_POLLED or not self.immediate_polls.reserve(self):
            return task
        leased = replace_fields(task, leased_until=now + self.immediate_polls.lease, fence=task.fence + 1)
        self.tasks.append(leased)
        return leased


class ImmediatePolls:
    """Reserves capacity for the polls of open transactions, and starts these polls after the commit.

    `lease` is how long a claim lives without renewal. `reserved` is the number of polls of open transactions. Tasks
    are leased only while `accepting`: after `open`, and before `close`.
    """

    def __init__(self, *, lease: timedelta) -> None:
        self.lease = lease
        self.reserved = 0
        self.accepting = False
        self._capacity: Callable[[], int] | None = None
        self._claims: ImmediateClaims[PollReservations] = ImmediateClaims(release=self._release)

    def open(self, capacity: Callable[[], int], poll: Callable[[Task], object]) -> None:
        """Lease tasks that become due, as many as `capacity()` allows; `poll` is called with each after its commit."""
        self._capacity = capacity
        self.accepting = True
        self._claims.open(lambda reservations: [poll(task) for task in reservations.tasks])

    async def close(self) -> None:
        """Lease no more tasks, and wait until open transactions have started their polls or failed."""
        self.accepting = False
        await self._claims.close()

    def reserve(self, reservations: PollReservations) -> bool:
        """Reserve capacity for one more poll of a transaction; return whether any was free."""
        if not self._claims.accepting or self._capacity is None or self._capacity() <= self.reserved:
            return False
        self.reserved += 1
        self._claims.await_end(reservations)
        return True

    def reservations(self) -> AbstractContextManager[PollReservations]:
        """Yield what leases tasks inside the block, a transaction; leaving it normally starts their polls."""
        return self._claims.transaction(PollReservations(immediate_polls=self))

    def _release(self, reservations: PollReservations) -> None:
        self.reserved -= len(reservations.tasks)
