"""Fast copies of frozen values."""

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime

import pytest

from service.domain.fast_copy import replace_fields
from service.domain.task import Status, Task, TaskId

NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
TASK = Task(id=TaskId("t1"), client="ann", provider="vtrix", model="m", bucket="b", created_at=NOW, deadline_at=NOW)


def test_copy_is_what_replace_returns() -> None:
    """The same fields in the same order, and equal; the original is unchanged."""
    copy = replace_fields(TASK, status=Status.COMPLETED, progress=1.0)
    assert copy == replace(TASK, status=Status.COMPLETED, progress=1.0)
    assert list(vars(copy)) == list(vars(TASK))
    assert TASK.status is Status.QUEUED


def test_copy_is_frozen() -> None:
    """A copy cannot be changed."""
    with pytest.raises(FrozenInstanceError):
        replace_fields(TASK, progress=0.5).progress = 1.0  # type: ignore[misc] # what is tried


def test_copy_without_differences_is_the_value_itself() -> None:
    """A caller can compare by identity."""
    assert replace_fields(TASK, status=Status.QUEUED, note=None) is TASK


def test_unknown_field_is_a_type_error() -> None:
    """A misspelt field is not ignored."""
    with pytest.raises(TypeError, match="Task has no field progres"):
        replace_fields(TASK, progres=0.5)
