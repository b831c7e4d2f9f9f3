"""Between a task and its row."""

import math
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from typing import Any

from sqlalchemy import RowMapping

from service.domain.fast_copy import construct_unchecked
from service.domain.task import Source, Status, Task, TaskError, Usage
from service.storage.tables import tasks

Values = dict[str, Any]

TASK_COLUMNS = tuple(tasks.c[field.name] for field in fields(Task))
"""What makes a task: neither the idempotency key nor the computed cost."""

TASK_NAMES = tuple(column.name for column in TASK_COLUMNS)

STRUCTURED: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("status", Status),
    ("progress", float),  # SQLite returns 1.0 as 1
    ("settled_by", Source),
    ("error", lambda value: TaskError(**value)),
    ("usage", lambda value: Usage(**value)),
    ("notify", tuple),
    ("output", tuple),
    ("warnings", tuple),
)
"""What a column's value is made into."""


def task_values(task: Task) -> Values:
    """Return the columns of `task`, its cost as a number beside its usage."""
    return {name: _plain(value) for name, value in vars(task).items()} | {"cost": cost_in_usd(task.usage)}


def changed_task_values(before: Task, after: Task) -> Values:
    """Return the columns in which `after` differs from `before`: mostly few, while each costs encoding and indexes."""
    old, new = vars(before), vars(after)
    moved = [name for name, value in new.items() if value is not old[name] and value != old[name]]
    changed = {name: _plain(new[name]) for name in moved}
    return changed | {"cost": cost_in_usd(after.usage)} if "usage" in changed else changed


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return dict(vars(value)) if isinstance(value, TaskError | Usage) else value


def task_from_row(row: RowMapping) -> Task:
    """Return the task that a row holds, whose first columns are TASK_COLUMNS."""
    values: Values = dict(zip(TASK_NAMES, row.values(), strict=False))
    for name, structured in STRUCTURED:
        if (value := values[name]) is not None:
            values[name] = structured(value)
    return construct_unchecked(Task, values)


def cost_in_usd(usage: Usage | None) -> float | None:
    """Return the cost that `usage` tells, None where it tells none that is a sum of money."""
    if usage is None or usage.cost is None:
        return None
    try:
        cost = float(usage.cost)
    except ValueError:
        return None
    return cost if math.isfinite(cost) and cost >= 0 else None
