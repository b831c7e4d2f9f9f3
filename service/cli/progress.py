"""Follow a task to its end, with a progress bar where there is a terminal and plain lines where there is none."""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import chain, repeat

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from service.cli import Unreachable
from service.cli.output import clean
from service.domain.task import Json

FetchTask = Callable[[int], Awaitable[Json]]
"""Returns the task as it is once it has ended, or after that many seconds at most."""

FINAL_STATUSES = frozenset({"completed", "failed", "canceled", "expired"})
MIN_WAIT, MAX_WAIT = 1, 10
SHORT_WAITS = 5
"""How long one look waits, in seconds: short at first, so that the bar moves; then longer, since each is a request."""

MAX_TRIES = 30
"""How many questions in a row may fail before we give up; a second lies between them."""


async def follow(fetch: FetchTask, *, out: Console) -> Json:
    """Return the task once it has ended, as `fetch` tells it.

    Raises Failed when `fetch` does, and Unreachable only when it keeps doing so.
    """
    with _bar(out) as bar:
        row = bar.add_task("", total=None)
        shown = noted = ""
        for seconds in _waits():
            task = await _fetch_with_retries(partial(fetch, seconds))
            progress = task.get("progress")
            bar.update(
                row, total=1.0 if progress else None, completed=progress or 0.0, description=clean(task["status"])
            )
            shown = _plain_line(out, task, shown)
            noted = _note(out, task, noted)
            if task["status"] in FINAL_STATUSES:
                break
    return task


def _waits() -> Iterator[int]:
    """Yield how long each look waits, without end."""
    return chain(repeat(MIN_WAIT, SHORT_WAITS), range(MIN_WAIT + 1, MAX_WAIT), repeat(MAX_WAIT))


async def _fetch_with_retries(fetch: Callable[[], Awaitable[Json]]) -> Json:
    for _ in range(MAX_TRIES - 1):
        try:
            return await fetch()
        except Unreachable:
            await anyio.sleep(1)
    return await fetch()


def _bar(out: Console) -> Progress:
    return Progress(
        TextColumn(" "),
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(bar_width=36),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
    )


def _note(out: Console, task: Json, noted: str) -> str:
    """Print why the task waits, when there is something new to say; return what was said last."""
    note = clean(task.get("note") or "")
    if note and note != noted:
        out.print(f"    {note}", soft_wrap=True)
    return note


def _plain_line(out: Console, task: Json, shown: str) -> str:
    """Print a line when there is no bar and something has changed; return the line that was shown last."""
    line = f"{clean(task['status'])} {task['progress']:.0%}" if task.get("progress") else clean(task["status"])
    if not out.is_terminal and line != shown:
        out.print(f"    {line}")
    return line
