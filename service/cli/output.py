"""What a person reads goes to a terminal or to standard error, and JSON alone to standard output: see `--json`."""

import json
import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

STATUS_STYLES = {
    "completed": "green",
    "failed": "red",
    "expired": "red",
    "canceled": "yellow",
    "in_doubt": "yellow",
    "in_progress": "cyan",
}

MIN_WRAP_WIDTH = 20
"""Characters of a line that are worth breaking a text for."""

COLUMN_GAP = "  "
"""What stands between two columns."""


def console() -> Console:
    """Return a console for progress, hints and faults, on the standard error of now; plain when that is no terminal."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def result_console() -> Console:
    """Return a console for what was asked for: on the standard output where that is a terminal, else standard error.

    A character that the terminal's encoding lacks is escaped, as standard error has it by itself.
    """
    if not sys.stdout.isatty():
        return console()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(highlight=False, markup=False, emoji=False)


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=not _speaks_unicode())
    # echo flushes: a reader that has gone is met here, where click ends in silence, and not at the interpreter's end
    click.echo("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def clean(value: object) -> str:
    """Return text from elsewhere without the control characters that would steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in str(value))


def status_text(status: object) -> Text:
    """Return a task's status in its colour."""
    return Text(clean(status), style=STATUS_STYLES.get(str(status), ""))


def show_fields(fields: Mapping[str, object], *, out: Console | None = None) -> None:
    """Show names and values, one a line, on `out`, by default as a result; what is None or empty is left out."""
    out = out or result_console()
    given = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    width = max(map(len, given), default=0) + len(COLUMN_GAP)
    for name, value in given.items():
        shown = value if isinstance(value, Text) else Text(_wrapped(clean(value), width, out))
        out.print(Text(name.ljust(width), style="dim") + shown, soft_wrap=True)


def _wrapped(text: str, indent: int, out: Console) -> str:
    """Return a text broken between words for a terminal, under its own beginning; an address is never broken."""
    room = out.width - indent
    if not out.is_terminal or cell_len(text) <= room or room < MIN_WRAP_WIDTH:
        return text
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if cell_len(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return f"\n{' ' * indent}".join(lines)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, below: int = 1) -> None:
    """Show rows under their columns; when there are none, tell so with the line `empty`.

    On a terminal that is too narrow, the last `below` columns of each row go to a line of their own beneath it.
    """
    if not rows:
        console().print(empty)
        return
    out = result_console()
    head = [Text(column, style="dim") for column in columns]
    cells = [[cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(head, *cells, strict=True)]
    at = len(columns)
    if out.is_terminal and sum(widths) + len(COLUMN_GAP) * (at - 1) > out.width:
        at -= below
    for row in (head, *cells):
        line = _line(row[:at], widths[:at])
        if out.is_terminal:
            # the end of a line gives way, never the id at its beginning: it is what people copy
            line.truncate(out.width, overflow="ellipsis")
        out.print(line, soft_wrap=True)
        if any(cell.plain for cell in row[at:]):
            out.print(Text(COLUMN_GAP) + _line(row[at:], widths[at:]), soft_wrap=True)


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text()
    for cell, width in zip(cells, widths, strict=True):
        line += cell
        line += " " * (width - cell.cell_len) + COLUMN_GAP
    line.rstrip()
    return line


def truncate(text: str, most: int) -> str:
    """Return a text of at most `most` characters, with a mark where it was cut."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def format_time(time: object, *, seconds: bool = False) -> str:
    """Return a time of the service, in UTC, as a table has it: `05-06 12:09`, empty for None."""
    return text_of(time)[5 : 19 if seconds else 16].replace("T", " ")


def text_of(value: Any) -> str:
    """Return a value as a person reads it: empty for None."""
    return "" if value is None else clean(value)
