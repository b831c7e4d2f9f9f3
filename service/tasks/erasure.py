"""Erasing a task: its stored files first, then everything else, so that a failure leaves nothing unnamed."""

from dataclasses import dataclass

import structlog

from service.domain.erasure import require_erasable
from service.domain.errors import NotFound, OperatorError
from service.domain.ports.erasure import StoredFiles, TaskEraser
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Task, TaskId

log = structlog.get_logger("boomerang.tasks")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskErasure:
    """Erases tasks."""

    queries: TaskQueries
    eraser: TaskEraser
    files: StoredFiles
    clock: Clock

    async def erase(self, task_id: TaskId) -> Task:
        """Erase an ended task and return what stays; a second call changes nothing.

        Raises NotFound, Conflict with the reason, ArchiveRefused, ArchiveUnavailable or StoreUnavailable.
        """
        task = await self.queries.task(task_id)
        if task is None:
            raise NotFound("there is no such task")
        if task.erased_at is not None:
            return task
        require_erasable(task)
        await self.eraser.require_idle(task, now=self.clock.now())
        await self.files.erase(task.id, task.output)
        after = await self.eraser.erase(task, now=self.clock.now())
        await self._erase_files_again(task)
        return after

    async def _erase_files_again(self, task: Task) -> None:
        """Delete what an attempt has stored once more between the two steps: none can begin any more."""
        try:
            await self.files.erase(task.id, task.output)
        except OperatorError as error:  # they were deleted a moment ago
            log.warning("files of an erased task not deleted again", task=task.id, error=str(error))
