"""Rows of a recording."""

from tests.unit.frozen.provider import Json


def column(recording: Json, table: str, name: str) -> set[object]:
    """Return the different values of a column, without NULL."""
    return {row[name] for row in recording["rows"][table]} - {None}


def row_of(recording: Json, task: str) -> Json:
    """Return the row of a task, by its id or by the prompt under which it was submitted."""
    task_id = recording["ids"].get(task, task)
    (row,) = [row for row in recording["rows"]["tasks"] if row["id"] == task_id]
    found: Json = row
    return found


def polls_of(recording: Json, task_id: str) -> list[str]:
    """Return the outcomes of a task's polls."""
    return [row["outcome"] for row in recording["rows"]["polls"] if row["task_id"] == task_id]
