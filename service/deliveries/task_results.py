"""What handlers may ask and say about a task's results."""

from service.domain.artifact import Artifact
from service.domain.errors import NotFound
from service.domain.ports.provider import Provider
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Json, TaskId
from service.domain.task_update import TaskUpdate
from service.tasks.recorder import Recorder


class TaskResults:
    """Asks the upstream for fresh addresses, and records what a handler has kept. Never submits anything."""

    def __init__(self, *, queries: TaskQueries, upstream: Provider, recorder: Recorder) -> None:
        self._queries = queries
        self._provider = upstream
        self._recorder = recorder

    async def refetch(self, task_id: str) -> list[Json]:
        """Return the task's output with fresh addresses; raises NotFound or UpstreamError."""
        task = await self._queries.task(TaskId(task_id))
        if task is None or task.upstream_id is None:
            raise NotFound("the upstream's id of this task is not known")
        return list((await self._provider.fetch(task.upstream_id)).output)

    async def keep(self, task_id: str, artifact: Artifact) -> None:
        """Record that a result is kept; the first time `artifact.stored` follows."""
        await self._recorder.add(TaskUpdate.stored_artifact(TaskId(task_id), artifact))
