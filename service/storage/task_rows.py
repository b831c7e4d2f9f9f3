"""Conversion between a task and its row."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import compress
from operator import attrgetter, is_not
from typing import Any

from sqlalchemy import ColumnElement, null

from service.domain.fast_copy import construct_unchecked
from service.domain.task import Source, Status, Task, TaskError, Usage
from service.storage.tables import tasks

Values = dict[str, Any]

TASK_COLUMNS = tuple(tasks.c[field.name] for field in fields(Task))
"""The columns that are fields of a task: all but the idempotency key and its digests."""

TASK_NAMES = tuple(column.name for column in TASK_COLUMNS)

EMPTY: Values = {"metadata": {}, "notify": (), "hinted_fact": None}
"""The values of fields that a list leaves out."""

Converter = Callable[[Any], Any]

FROM_COLUMN: tuple[tuple[str, Converter], ...] = (
    ("status", Status),
    ("progress", float),  # SQLite returns 1.0 as 1
    ("cost", float),
    ("settled_by", Source),
    ("error", lambda value: TaskError(**value)),
    ("usage", lambda value: Usage(**value)),
    ("notify", tuple),
    ("output", tuple),
    ("warnings", tuple),
)
"""How a column's value other than NULL becomes the value of the field."""

TO_COLUMN: dict[str, Converter] = {
    "status": attrgetter("value"),
    "settled_by": attrgetter("value"),
    "error": lambda value: dict(vars(value)),
    "usage": lambda value: dict(vars(value)),
}
"""How a field's value other than None becomes the value of the column; every other field is stored as it is."""


def task_values(task: Task) -> Values:
    """Return the columns of `task`."""
    values = dict(vars(task))
    for name, convert in TO_COLUMN.items():
        if (value := values[name]) is not None:
            values[name] = convert(value)
    return values


def changed_task_values(before: Task, after: Task) -> Values:
    """Return the columns in which `after` differs from `before`, so that unchanged ones cost nothing.

    Most fields are the same objects: `compress` passes over them without a step of Python for each.
    """
    old, new, changed = vars(before), vars(after), {}
    for name, value in compress(new.items(), map(is_not, new.values(), old.values())):  # both in the order of fields
        if value != old[name]:
            changed[name] = TO_COLUMN[name](value) if name in TO_COLUMN and value is not None else value
    return changed


def task_from_row(row: Sequence[Any], **given: object) -> Task:
    """Return the task of a row whose first columns are TASK_COLUMNS; `given` are fields that were not read."""
    values: Values = dict(zip(TASK_NAMES, row, strict=False))  # belongs to the task from now on
    for name, convert in FROM_COLUMN:
        if (value := values[name]) is not None:
            values[name] = convert(value)
    values.update(given)
    return construct_unchecked(Task, values)


def columns_without(left_out: frozenset[str]) -> list[ColumnElement[Any]]:
    """Return the columns of a task, with NULL in place of those in `left_out`."""
    return [null().label(each.name) if each.name in left_out else each for each in TASK_COLUMNS]


def rows_to_tasks(rows: Sequence[Sequence[Any]], left_out: frozenset[str]) -> list[Task]:
    """Return the tasks of rows with `columns_without`."""
    empty = {name: value for name, value in EMPTY.items() if name in left_out}
    return [task_from_row(row, **empty) for row in rows]
