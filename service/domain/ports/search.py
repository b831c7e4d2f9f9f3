"""Finding tasks by their words, and by filters that few tasks pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.domain.task import Task, TaskId


@dataclass(frozen=True, kw_only=True)
class TaskWindow:
    """Tasks that one bounded read has found.

    The cursor after a task is its id, unless `cursors` has another one: in a search the place of a task that has no
    event yet may change. `after` is the cursor to continue with. None at the end, and if the limit of the read was
    reached after a task whose cursor is its id.
    """

    tasks: Sequence[Task]
    after: str | None = None
    cursors: Mapping[TaskId, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StatusCount:
    """How many tasks have a status; with `more` there are or may be more than `count`."""

    status: str
    count: int
    more: bool


class SearchIndex(Protocol):
    """The words of tasks."""

    async def advance(self) -> int:
        """Read the next events and write the words of their tasks; return how many events were read."""

    async def advance_far(self) -> int:
        """Advance while there are more events, for part of a second and with pauses; return how many were read."""
