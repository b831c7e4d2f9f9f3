"""The tasks that an action on many has not handled yet: some were read, and further ones are after a position."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic

from service.dashboard.task_filter import next_tasks
from service.domain.ports.tasks import TaskFilter, TaskQueries
from service.domain.task import Task, TaskId


@dataclass(kw_only=True)
class BulkTasks:
    """The tasks with the ids `pending`, and with `has_more` those of a filter after `cursor`.

    The next page is read before the last pending task is handled, which is that of the cursor: a canceled task has
    another place in a search than a queued one. Of the tasks of a page those that are `is_repeated` are left out: an
    earlier batch has handled them. A batch ends `seconds` after it has begun, also between two pages: few
    tasks may pass the filter.
    """

    queries: TaskQueries
    wanted: TaskFilter
    pending: list[str]
    cursor: str | None
    has_more: bool
    seconds: float
    is_repeated: Callable[[Task], bool]
    _until: float = field(init=False)
    _loaded: dict[str, Task] = field(default_factory=dict)
    _seen: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._until = monotonic() + self.seconds
        self._seen = set(self.pending)

    @property
    def is_late(self) -> bool:
        """Whether the time of the batch has passed."""
        return monotonic() > self._until

    @property
    def at_end(self) -> bool:
        """Whether all tasks were returned."""
        return not self.pending and not self.has_more

    async def next(self) -> Task | None:
        """Return the next task, each once; None at the end, or once the batch ends, after one page or more."""
        while not self.at_end:
            if self._needs_page():
                await self._read_page()
                if self._needs_page() and self.is_late:
                    return None
                continue
            task_id = self.pending.pop(0)
            task = self._loaded.pop(task_id, None) or await self.queries.task(TaskId(task_id))
            if task is not None:
                return task
        return None

    def _needs_page(self) -> bool:
        return self.has_more and len(self.pending) <= 1

    async def _read_page(self) -> None:
        tasks, self.cursor = await next_tasks(self.queries, replace(self.wanted, cursor=self.cursor))
        self.has_more = self.cursor is not None
        new: dict[str, Task] = {
            task.id: task for task in tasks if task.id not in self._seen and not self.is_repeated(task)
        }
        self.pending += new
        self._loaded |= new
        self._seen |= set(new)
