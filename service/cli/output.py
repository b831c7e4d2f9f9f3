"""Terminal output: text goes to a terminal or standard error, and only JSON (`--json`) to standard output."""

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
"""Minimum width in characters for which text is wrapped."""

COLUMN_GAP = "  "


def console() -> Console:
    """Return a console on standard error for progress, hints and errors; without colours if it is no terminal."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def result_console() -> Console:
    """Return a console for results: on standard output if it is a terminal, else on standard error.

    Characters that the encoding lacks are escaped.
    """
    if not sys.stdout.isatty():
        return console()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(highlight=False, markup=False, emoji=False)


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=not (sys.stdout.encoding or "").lower().startswith("utf"))
    # echo flushes: a closed pipe raises here, where click exits silently, instead of at interpreter exit
    click.echo("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def clean(value: object) -> str:
    """Return `value` as text with control characters replaced by blanks, so that it cannot control the terminal."""
    return "".join(char if char.isprintable() else " " for char in str(value))


def status_text(status: object) -> Text:
    """Return a task status in its colour."""
    return Text(clean(status), style=STATUS_STYLES.get(str(status), ""))


def show_fields(fields: Mapping[str, object], *, out: Console | None = None) -> None:
    """Print names and values, one per line, to `out` (default: the result console). Skip empty values."""
    out = out or result_console()
    shown = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0) + len(COLUMN_GAP)
    for name, value in shown.items():
        text = value if isinstance(value, Text) else Text(_wrapped(clean(value), width, out))
        out.print(Text(name.ljust(width), style="dim") + text, soft_wrap=True)


def show_hanging(head: Text, text: str) -> None:
    """Print `text` after `head` on the result console; on a terminal its further lines begin below its first."""
    out = result_console()
    out.print(head + Text(_wrapped(text, head.cell_len, out)), soft_wrap=True)


def _wrapped(text: str, indent: int, out: Console) -> str:
    """Return `text` wrapped between words with a hanging indent; a long word such as an address stays whole."""
    width = out.width - indent
    if not out.is_terminal or cell_len(text) <= width or width < MIN_WRAP_WIDTH:
        return text
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if cell_len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return f"\n{' ' * indent}".join(lines)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, below: int = 1) -> None:
    """Print rows under their column headers, or the line `empty` if there are none.

    On a narrow terminal, the last `below` columns of each row are printed on a second line.
    """
    if not rows:
        console().print(empty)
        return
    out = result_console()
    head = [Text(column, style="dim") for column in columns]
    cells = [[cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(head, *cells, strict=True)]
    split = len(columns)
    if out.is_terminal and sum(widths) + len(COLUMN_GAP) * (split - 1) > out.width:
        split -= below
    for row in (head, *cells):
        line = _line(row[:split], widths[:split])
        if out.is_terminal:
            # cut the end: users copy the id at the start
            line.truncate(out.width, overflow="ellipsis")
        out.print(line, soft_wrap=True)
        if any(cell.plain for cell in row[split:]):
            out.print(Text(COLUMN_GAP) + _line(row[split:], widths[split:]), soft_wrap=True)


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text()
    for cell, width in zip(cells, widths, strict=True):
        line += cell
        line += " " * (width - cell.cell_len) + COLUMN_GAP
    line.rstrip()
    return line


def truncate(text: str, limit: int) -> str:
    """Return at most `limit` characters of `text`; a cut text ends with an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def format_time(time: object, *, seconds: bool = False) -> str:
    """Return an ISO 8601 time in the form `05-06 12:09`, or an empty string for None."""
    return text_of(time)[5 : 19 if seconds else 16].replace("T", " ")


def text_of(value: Any) -> str:
    """Return `value` as clean text, or an empty string for None."""
    return "" if value is None else clean(value)
