"""Lets handlers refetch a task's results and record stored ones."""

from dataclasses import dataclass

from service.domain.artifact import Artifact
from service.domain.errors import NotFound
from service.domain.ports.provider import Provider
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Json, TaskId
from service.domain.task_update import TaskUpdate
from service.tasks.recorder import Recorder


@dataclass(kw_only=True, slots=True)
class TaskResults:
    """Fetches fresh URLs from the provider, and records what a handler has stored. Never submits anything."""

    queries: TaskQueries
    upstream: Provider
    recorder: Recorder

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
        """Record that a result is stored; the first time, this creates `artifact.stored`."""
        await self.recorder.add(TaskUpdate.stored_artifact(TaskId(task_id), artifact))
