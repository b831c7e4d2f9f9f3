"""Follow a task until it finishes: a progress bar on a terminal, plain lines elsewhere."""

from collections.abc import Awaitable, Callable
from itertools import chain, repeat

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from service.cli import Unreachable
from service.cli.output import clean
from service.cli.streams_and_signals import cursor_shown_at_the_end, is_interactive
from service.domain.task import Json

FetchTask = Callable[[int], Awaitable[Json]]
"""Return the task when it finishes, or after that many seconds at the latest."""

FINAL_STATUSES = frozenset({"completed", "failed", "canceled", "expired"})
MIN_WAIT, MAX_WAIT = 1, 5
SHORT_WAITS = 5
"""Wait of one request in seconds: the first are short, so that the bar moves; later ones are as long as the service's
default PROGRESS_EVERY: while one is open, the service polls the task that often."""

MAX_TRIES = 30
"""Maximum number of tries of one request, one second apart."""


async def follow(fetch: FetchTask, *, out: Console) -> Json:
    """Return the task when it has finished.

    Raises the CommandFailed of `fetch`, but Unreachable only after MAX_TRIES in a row.
    """
    last_line = last_note = ""
    with cursor_shown_at_the_end(out), _progress_bar(out) as bar:
        row = bar.add_task("", total=None)
        for seconds in chain(repeat(MIN_WAIT, SHORT_WAITS), range(MIN_WAIT + 1, MAX_WAIT), repeat(MAX_WAIT)):
            task = await _fetch_with_retries(fetch, seconds)
            status, progress = clean(task["status"]), task.get("progress")
            bar.update(row, total=1.0 if progress else None, completed=progress or 0.0, description=status)
            line = f"{status} {progress:.0%}" if progress else status
            if not is_interactive(out) and line != last_line:
                out.print(f"    {line}")
            note = clean(task.get("note") or "")
            if note and note != last_note:
                out.print(f"    {note}", soft_wrap=True)
            last_line, last_note = line, note
            if task["status"] in FINAL_STATUSES:
                break
    return task


async def _fetch_with_retries(fetch: FetchTask, seconds: int) -> Json:
    for _ in range(MAX_TRIES - 1):
        try:
            return await fetch(seconds)
        except Unreachable:
            await anyio.sleep(1)
    return await fetch(seconds)


def _progress_bar(out: Console) -> Progress:
    return Progress(
        TextColumn(" "),
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(bar_width=36),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=not is_interactive(out),
    )
