"""`boomerang watch` without an id: a live table of all tasks, or a line for each change where there is no terminal."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio
import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from service.cli.output import clean, format_time, result_console, status_text, text_of
from service.cli.progress import FINAL_STATUSES
from service.cli.streams_and_signals import cursor_shown_at_the_end, is_interactive
from service.cli.task_feed import TaskChanges, TaskFeed
from service.domain.task import Json

MAX_TASKS = 200
"""Tasks that are kept in memory; the oldest finished ones are left out first."""

WIDE = 72
"""Columns from which a task has one line; below them its id and prompt have a line of their own."""

WITH_BAR = 100
"""Columns from which the progress has a bar."""

ECHO_WIDTH = 2
"""Columns that a terminal needs to show ^C: a line that it continues would move all that is drawn again."""

HEAD_LINES = 2
BAR_WIDTH = 10
STATUS_WIDTH, DONE_WIDTH, AGE_WIDTH = 11, 4, 5


@dataclass(kw_only=True)
class TaskBoard:
    """The tasks of the table, newest first, whether the first ones have come, and why no changes come at the moment."""

    tasks: dict[str, Json] = field(default_factory=dict)
    begun: bool = False
    lost: str = ""

    def add(self, changes: TaskChanges) -> None:
        """Take over changes."""
        self.lost = changes.lost
        self.begun = self.begun or not changes.lost
        self.tasks.update({task["id"]: task for task in changes.tasks})
        for task in sorted(self.tasks.values(), key=_oldest_finished)[: max(0, len(self.tasks) - MAX_TASKS)]:
            del self.tasks[task["id"]]

    def rows(self) -> list[Json]:
        """Return the unfinished tasks, then the finished ones, each newest first."""
        newest = sorted(self.tasks.values(), key=lambda task: str(task.get("created_at") or ""), reverse=True)
        return sorted(newest, key=_is_finished)

    def render(self, now: datetime, *, width: int, height: int) -> list[Text]:
        """Return the lines of the table for a terminal of this size."""
        rows = self.rows()
        lines = 1 if width >= WIDE else 2
        shown = rows[: max(1, (height - HEAD_LINES) // lines)]
        return [self._summary(width), *(line for task in shown for line in _lines(task, now, width))]

    def _summary(self, width: int) -> Text:
        counts: dict[str, int] = {}
        for task in self.tasks.values():
            counts[clean(task["status"])] = counts.get(clean(task["status"]), 0) + 1
        text = ", ".join(f"{count} {name}" for name, count in counts.items())
        text = text or ("no tasks yet" if self.begun else "connecting")
        shown = f"{clean(self.lost)}; trying again" if self.lost else f"{text}; Ctrl-C ends"
        line = Text(shown, style="yellow" if self.lost else "dim")
        line.truncate(width, overflow="ellipsis")
        return line


def _is_finished(task: Json) -> bool:
    return task["status"] in FINAL_STATUSES


def _oldest_finished(task: Json) -> tuple[bool, str]:
    return not _is_finished(task), str(task.get("created_at") or "")


def _lines(task: Json, now: datetime, width: int) -> Iterable[Text]:
    """Return the line of a task, two on a narrow terminal; each fits into `width`."""
    head = status_text(task["status"])
    head.truncate(STATUS_WIDTH, pad=True)
    if width >= WITH_BAR:
        head += Text("  ") + _bar(task)
    head += Text(f"  {_done(task):>{DONE_WIDTH}}  {_age(task, now):>{AGE_WIDTH}}  ")
    about = Text(clean(task.get("note") or task.get("params", {}).get("prompt") or ""), style="dim")
    task_id = text_of(task["id"])
    lines = [head + Text(f"{task_id}  ") + about] if width >= WIDE else [head + about, Text(f"  {task_id}")]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        yield line


def _bar(task: Json) -> Text:
    """Return the progress as a bar whose parts differ without colours too."""
    progress = task.get("progress")
    filled = round(max(0.0, min(1.0, progress or 0.0)) * BAR_WIDTH)
    return Text("━" * filled, style="cyan") + Text(
        ("─" if progress is not None else " ") * (BAR_WIDTH - filled), style="dim"
    )


def _done(task: Json) -> str:
    return "" if task.get("progress") is None else f"{task['progress']:.0%}"


def _age(task: Json, now: datetime) -> str:
    """Return how long ago the task was created, or how long it took, in one unit."""
    created, settled = _time(task.get("created_at")), _time(task.get("settled_at"))
    if created is None:
        return ""
    seconds = max(timedelta(), (settled or now) - created).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length * 2:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None


async def watch_all(feed: TaskFeed, *, as_json: bool) -> None:
    """Show the changes of all tasks until the command is interrupted.

    On a terminal that can draw again it is a table; otherwise a line for each change, or with `as_json` the changed
    task as one line of JSON on standard output.
    """
    out = result_console()
    if as_json:
        await _follow(feed, _print_json, first=_unfinished)
    elif sys.stdout.isatty() and is_interactive(out):
        await _live(feed, out)
    else:
        await _follow(feed, lambda task: _print_line(out, task), first=_unfinished)


def _unfinished(tasks: Iterable[Json]) -> list[Json]:
    return [task for task in tasks if not _is_finished(task)]


async def _follow(
    feed: TaskFeed, show: Callable[[Json], None], *, first: Callable[[Iterable[Json]], list[Json]]
) -> None:
    """Call `show` for each changed task, and for those that `first` selects of the first ones; oldest first."""
    begun = False
    async for changes in feed.changes():
        for task in reversed(changes.tasks if begun else first(changes.tasks)):
            show(task)
        begun = begun or not changes.lost


def _print_json(task: Mapping[str, object]) -> None:
    click.echo(json.dumps(task, ensure_ascii=True))


def _print_line(out: Console, task: Json) -> None:
    now = format_time(datetime.now(UTC).isoformat(), seconds=True)
    about = clean(task.get("note") or task.get("params", {}).get("prompt") or "")
    parts = (now, text_of(task["id"]), text_of(task["status"]), _done(task), about)
    out.print("  ".join(part for part in parts if part), soft_wrap=True)


async def _live(feed: TaskFeed, out: Console) -> None:
    board, drawn = TaskBoard(), list[Text]()
    screen = Live(console=out, auto_refresh=False, vertical_overflow="crop")
    with cursor_shown_at_the_end(out), screen as live:

        def refresh() -> None:
            nonlocal drawn
            lines = board.render(datetime.now(UTC), width=out.width - ECHO_WIDTH, height=out.height)
            if lines != drawn:  # what is drawn again cannot be selected and copied
                drawn = lines
                live.update(Group(*lines), refresh=True)

        async def tick() -> None:
            while True:  # ages grow, and the terminal may have another size
                refresh()
                await anyio.sleep(1)

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            async for changes in feed.changes():
                board.add(changes)
                refresh()
