"""Terminal output: text goes to a terminal or standard error, and only JSON (`--json`) to standard output."""

import json
import sys
from collections.abc import Collection, Mapping, Sequence
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
        text = value if isinstance(value, Text) else Text(wrapped(clean(value), width, out))
        out.print(Text(name.ljust(width), style="dim") + text, soft_wrap=True)


def show_hanging(head: Text, text: str) -> None:
    """Print `text` after `head` on the result console; on a terminal its further lines begin below its first."""
    out = result_console()
    out.print(head + Text(wrapped(text, head.cell_len, out)), soft_wrap=True)


def show_wrapped(text: str, *, indent: int) -> None:
    """Print `text` on the result console; on a terminal its further lines begin `indent` columns to the right."""
    out = result_console()
    first, *rest = _wrapped_lines(clean(text), out.width, out.width - indent) if out.is_terminal else [clean(text)]
    out.print(f"\n{' ' * indent}".join([first, *rest]), soft_wrap=True)


def wrapped(text: str, indent: int, out: Console) -> str:
    """Return `text` wrapped between words with a hanging indent; a long word such as an address stays whole.

    A text that begins with a word that is too long for the rest of the line begins below.
    """
    width = out.width - indent
    if not out.is_terminal or cell_len(text) <= width:
        return text
    widest = max(map(cell_len, text.split()), default=0)
    if width < MIN_WRAP_WIDTH or width < widest <= out.width - len(COLUMN_GAP):
        indent = len(COLUMN_GAP)
        return "".join(f"\n{COLUMN_GAP}{line}" for line in _wrapped_lines(text, *[out.width - indent] * 2))
    return f"\n{' ' * indent}".join(_wrapped_lines(text, width, width))


def _wrapped_lines(text: str, first: int, width: int) -> list[str]:
    """Return the lines of `text`: the first one has `first` columns, the others `width`."""
    begin = text[: len(text) - len(text.lstrip())]
    lines = [begin]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1].strip() else f"{lines[-1]}{word}"
        if cell_len(longer) <= (first if len(lines) == 1 else width) or not lines[-1].strip():
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    empty: str,
    below: int = 1,
    cut: bool = False,
    fold: bool = False,
    numbers: Collection[str] = (),
) -> None:
    """Print rows under their column headers, or the line `empty` if there are none. Columns of `numbers` end in line.

    On a terminal that is too narrow, the last `below` columns of each row are printed below it; with `cut` the last
    column is cut instead, where enough of it remains; with `fold` it is printed below in rows that do not fit. On a
    still narrower one each row is printed as a paragraph, in which each value has the name of its column.
    """
    if not rows:
        console().print(empty)
        return
    out = result_console()
    head = [Text(column, style="dim") for column in columns]
    cells = [[cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(head, *cells, strict=True)]
    for at in (at for at, column in enumerate(columns) if column in numbers):
        _align_right([row[at] for row in (head, *cells)], widths[at])
    split = len(columns)
    if out.is_terminal and _width_of(widths) > out.width:
        split -= 0 if cut and out.width - _width_of(widths[:-1]) - len(COLUMN_GAP) >= MIN_WRAP_WIDTH else below
    whole = split - (split == len(columns) and not numbers)  # a text at the end may be cut, a number may not
    narrow = out.is_terminal and _width_of(widths[:whole]) > out.width
    if narrow:
        for row in cells:
            _print_paragraph(head, row, out)
        return
    for row in (head, *cells):
        whole_row = not fold or not out.is_terminal or _line(row, widths).cell_len <= out.width
        _print_row(row, widths, split if whole_row else split - 1, out)


def _align_right(column: Sequence[Text], width: int) -> None:
    for cell in column:
        cell.pad_left(width - cell.cell_len)


def _width_of(widths: Sequence[int]) -> int:
    return sum(widths) + len(COLUMN_GAP) * (len(widths) - 1)


def _print_row(row: Sequence[Text], widths: Sequence[int], split: int, out: Console) -> None:
    """Print the first `split` cells on a line, and the others below it."""
    line = _line(row[:split], widths[:split])
    if out.is_terminal:
        # cut the end: users copy the id at the start
        line.truncate(out.width, overflow="ellipsis")
    out.print(line, soft_wrap=True)
    below = _line(row[split:], widths[split:])
    if below.plain.strip():
        _print_below(below, out)


def _print_paragraph(head: Sequence[Text], row: Sequence[Text], out: Console) -> None:
    """Print the first cell on a line and the others with their names below it, as many lines as they take."""
    out.print(row[0], soft_wrap=True)
    named = [_named(name, cell) for name, cell in zip(head[1:], row[1:], strict=True) if cell.plain.strip()]
    text = Text(COLUMN_GAP).join(named)
    if text.plain:
        _print_below(text, out)


def _named(name: Text, cell: Text) -> Text:
    return Text(f"{name.plain.strip()} ", style="dim") + Text(cell.plain.strip(), style=cell.style)


def _print_below(text: Text, out: Console) -> None:
    """Print `text` with an indent; on a terminal it is wrapped between words."""
    width = out.width - len(COLUMN_GAP)
    lines = text.wrap(out, width) if out.is_terminal and text.cell_len > width else [text]
    for line in lines:
        line.rstrip()
        out.print(Text(COLUMN_GAP) + line, soft_wrap=True)


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
