"""Erasing what a task contains."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from service.domain.task import Json, Task


class StoredFiles(Protocol):
    """The archive of results."""

    async def erase(self, task_id: str, output: Sequence[Json]) -> None:
        """Delete the stored files of a task's output; raises ArchiveRefused and ArchiveUnavailable."""


class TaskEraser(Protocol):
    """The contents of tasks in the database."""

    async def erase(self, task: Task, *, now: datetime) -> Task:
        """Erase a task, with its inputs, callbacks and the contents of its events and deliveries; return what stays.

        Raises Conflict if the task has changed since `task` was read, or while a delivery of it is being made.
        """

    async def require_idle(self, task: Task, *, now: datetime) -> None:
        """Raise Conflict while a delivery of the task is being made."""
