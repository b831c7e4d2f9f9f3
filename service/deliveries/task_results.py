"""Lets handlers refetch a task's results and record stored ones."""

from dataclasses import dataclass

from service.domain.artifact import Artifact
from service.domain.errors import NotFound, Reject
from service.domain.ports.erasure import StoredFiles
from service.domain.ports.provider import Provider
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Json, TaskId
from service.domain.task_update import TaskUpdate
from service.tasks.recorder import Recorder


@dataclass(kw_only=True, slots=True)
class TaskResults:
    """Fetches fresh URLs from the provider, and records what a handler has stored. Never submits anything.

    `files` is the archive in which handlers store results.
    """

    queries: TaskQueries
    upstream: Provider
    recorder: Recorder
    files: StoredFiles

    async def refetch(self, task_id: str) -> list[Json]:
        """Return the task's output with fresh URLs; raises NotFound or UpstreamError."""
        task = await self.queries.task(TaskId(task_id))
        if task is None or task.upstream_id is None:
            raise NotFound("the upstream's id of this task is not known")
        return list((await self.upstream.fetch(task.upstream_id)).output)

    async def latest(self, task_id: str) -> list[Json]:
        """Return the recorded output of the task, [] for an unknown one."""
        task = await self.queries.task(TaskId(task_id))
        return [] if task is None else list(task.output)

    async def keep(self, task_id: str, artifact: Artifact) -> None:
        """Record that a result is stored; the first time, this creates `artifact.stored`.

        The task may be erased by now if the lease of the delivery has expired: then the file is deleted again, since
        nothing would name it. Raises Reject then, and ArchiveUnavailable or ArchiveRefused if it cannot be deleted.
        """
        task = (await self.recorder.add(TaskUpdate.stored_artifact(TaskId(task_id), artifact))).task
        if task is not None and task.erased_at is not None:
            await self.files.erase(task_id, [artifact.details])
            raise Reject("the task was erased while its result was being stored: the file is deleted again")
