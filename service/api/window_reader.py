"""Reads the rows of one page of a list in bounded windows, of which a page may need several."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from service.api.ports import WaitingNotes
from service.domain.ports.deliveries import DeliverySelection, DeliveryView
from service.domain.ports.tasks import TaskFilter, TaskQueries
from service.domain.task import Task

FIRST_WINDOWS = 1
MAX_WINDOWS = 20
"""Bounded reads of the first page, and of one that continues: if more are needed, it ends early with a `next_cursor`.

The first page is quick at a million tasks too; whoever continues it searches further back at once.
"""

R = TypeVar("R")
ReadWindow = Callable[[int, str | None], Awaitable[tuple[Sequence[R], str | None]]]
"""Reads one window: at most a number of rows after a position; returns the position to continue after, too."""


@dataclass(kw_only=True)
class WindowReader(Generic[R]):
    """Reads the rows of one page: the first one of a list, or one that continues it."""

    read_window: ReadWindow[R]
    is_first_page: bool
    cursors: dict[str, str] = field(default_factory=dict)
    """The positions after rows, of those whose position is not their id."""

    _windows: int = 0
    _rest: str | None = None

    async def read(self, count: int, after: str | None) -> list[R]:
        """Return at most `count` rows after the position `after`."""
        found: list[R] = []
        position, max_windows = after, FIRST_WINDOWS if self.is_first_page else MAX_WINDOWS
        while len(found) < count:
            rows, position = await self.read_window(count - len(found), position)
            found += rows
            self._rest = position
            self._windows += 1
            if position is None or self._windows >= max_windows:
                break
        return found

    def position_after(self, row_id: str) -> str:
        """Return the position after a row that was read."""
        return self.cursors.get(row_id, row_id)

    def rest(self) -> str | None:
        """Return the position to continue after if the last read ended before it had enough, None at the end."""
        return self._rest


def task_reader(queries: TaskQueries, notes: WaitingNotes, wanted: TaskFilter) -> WindowReader[Task]:
    """Return the reader of a page of tasks after the cursor of `wanted`, with what the queued ones wait for."""

    async def read_window(limit: int, after: str | None) -> tuple[Sequence[Task], str | None]:
        window = await queries.window(replace(wanted, limit=limit, cursor=after))
        reader.cursors |= {str(task_id): cursor for task_id, cursor in window.cursors.items()}
        return await notes.noted(window.tasks), window.after

    reader = WindowReader(read_window=read_window, is_first_page=wanted.cursor is None)
    return reader


def delivery_reader(queries: TaskQueries, wanted: DeliverySelection) -> WindowReader[DeliveryView]:
    """Return the reader of a page of deliveries after the cursor of `wanted`."""

    async def read_window(limit: int, after: str | None) -> tuple[Sequence[DeliveryView], str | None]:
        window = await queries.deliveries(replace(wanted, limit=limit, cursor=after))
        return window.deliveries, window.after

    return WindowReader(read_window=read_window, is_first_page=wanted.cursor is None)
