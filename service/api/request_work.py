"""The work that a request waits for, on platforms that run the process only while a request is open."""

import math
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from service.domain.task import Task, TaskId


class RequestWork(Protocol):
    """Does what is due while a request is open, within a time limit; what is left stays due.

    `max_wait` is the maximum in seconds of a wait for a task.
    """

    max_wait: float

    async def prepare(self) -> None:
        """Renew what became out of date while the process did not run; raises StoreUnavailable."""

    async def drive(self, task_id: TaskId) -> None:
        """Return once everything about this task that is due was tried, or the time is up."""

    async def drive_all(self) -> None:
        """Return once everything that is due was tried, or the time is up."""

    async def tried(self, task: Task, *, if_due: bool = False) -> Task:
        """Drive this task and return it as it is then; with `if_due` return it at once unless something is due."""

    def driving(self, task_id: TaskId, seconds: float) -> AbstractAsyncContextManager[None]:
        """Do what is due inside the block, for `seconds` at least; leaving it is like `drive`."""


class BackgroundWork:
    """Nothing waits: the jobs of a process that always runs do the work."""

    max_wait = math.inf

    async def prepare(self) -> None:
        """Do nothing."""

    async def drive(self, task_id: TaskId) -> None:
        """Do nothing."""

    async def drive_all(self) -> None:
        """Do nothing."""

    async def tried(self, task: Task, *, if_due: bool = False) -> Task:  # noqa: ARG002 - as in RequestWork
        """Return `task`."""
        return task

    def driving(self, task_id: TaskId, seconds: float) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - as in RequestWork
        """Return a context without effect."""
        return nullcontext()


BACKGROUND: RequestWork = BackgroundWork()
