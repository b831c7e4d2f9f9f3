"""The tasks that an action on many has not handled yet: some were read, and further ones are after a position."""

from dataclasses import dataclass, field, replace

from service.dashboard.task_filter import next_tasks
from service.domain.ports.tasks import TaskFilter, TaskQueries
from service.domain.task import Task, TaskId


@dataclass(kw_only=True)
class BulkTasks:
    """The tasks with the ids `pending`, and with `has_more` those of a filter after `cursor`.

    The next page is read before the last pending task is handled, which is that of the cursor: a canceled task has
    another place in a search than a queued one.
    """

    queries: TaskQueries
    wanted: TaskFilter
    pending: list[str]
    cursor: str | None
    has_more: bool
    _loaded: dict[str, Task] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    @property
    def at_end(self) -> bool:
        """Whether all tasks were returned."""
        return not self.pending and not self.has_more

    async def next(self) -> Task | None:
        """Return the next task, each once; None at the end."""
        while not self.at_end:
            if self.has_more and len(self.pending) <= 1:
                await self._read_page()
                continue
            task_id = self.pending.pop(0)
            task = self._loaded.pop(task_id, None) or await self.queries.task(TaskId(task_id))
            if task is not None:
                return task
        return None

    async def _read_page(self) -> None:
        self._seen.update(self.pending)
        tasks, self.cursor = await next_tasks(self.queries, replace(self.wanted, cursor=self.cursor))
        self.has_more = self.cursor is not None
        new: dict[str, Task] = {task.id: task for task in tasks if task.id not in self._seen}
        self.pending += new
        self._loaded |= new
        self._seen |= set(new)
