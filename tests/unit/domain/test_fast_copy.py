"""Copies of frozen values, made in a hurry."""

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime

import pytest

from service.domain.fast_copy import replace_fields
from service.domain.task import Status, Task, TaskId

NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
TASK = Task(id=TaskId("t1"), client="ann", provider="vtrix", model="m", bucket="b", created_at=NOW, deadline_at=NOW)


def test_copy_is_what_replace_returns() -> None:
    """The same fields in the same order, and equal; what it was made from stays as it was."""
    copy = replace_fields(TASK, status=Status.COMPLETED, progress=1.0)
    assert copy == replace(TASK, status=Status.COMPLETED, progress=1.0)
    assert list(vars(copy)) == list(vars(TASK))
    assert TASK.status is Status.QUEUED


def test_copy_is_as_frozen_as_what_it_was_made_from() -> None:
    """Nobody changes it in its place."""
    with pytest.raises(FrozenInstanceError):
        replace_fields(TASK, progress=0.5).progress = 1.0  # type: ignore[misc] # what is tried


def test_value_that_would_not_differ_is_itself() -> None:
    """Whoever asks whether something has changed need not compare all of it."""
    assert replace_fields(TASK, status=Status.QUEUED, note=None) is TASK


def test_field_that_there_is_not_is_a_programming_error() -> None:
    """A misspelt change does not get lost."""
    with pytest.raises(TypeError, match="Task has no field progres"):
        replace_fields(TASK, progres=0.5)
