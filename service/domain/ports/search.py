"""Finding tasks by their words, and by filters that few tasks pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.domain.task import Task


@dataclass(frozen=True, kw_only=True)
class TaskWindow:
    """Tasks that one bounded read has found.

    `after` is the cursor to continue with. None at the end, and if the limit of the read was reached: then the id of
    the last task is the cursor. A search returns it with tasks without an event too, whose place may change.
    """

    tasks: Sequence[Task]
    after: str | None = None


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
