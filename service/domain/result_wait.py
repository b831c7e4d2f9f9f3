"""A task that is reported as completed without any result: results may follow the status. Only computes."""

from dataclasses import replace
from datetime import datetime, timedelta

from service.domain.fast_copy import replace_fields
from service.domain.task import Fact, Source, Status, Task, TaskError
from service.domain.task_update import TaskUpdate
from service.domain.task_view import rfc3339

RESULT_WAIT = timedelta(minutes=10)
"""How long a task without any result is polled further, from when the provider first reported it as completed."""


PAID_WITHOUT_RESULT = "paid without result: "
"""Begins the warning on a task that was completed without any result; the provider's reason follows."""

RESULT_LEFT_OUT = "the upstream left out a result: "
"""Begins the warning on a task of which not every result has an address; the provider's reason follows."""

NO_RESULT = TaskError(code="no_result", message="the upstream gave no reason")


def result_awaited_until(task: Task) -> datetime | None:
    """Return until when results of a task are awaited, None if the provider did not report it as completed."""
    return None if task.empty_since is None else task.empty_since + RESULT_WAIT


def await_result(update: TaskUpdate, task: Task, now: datetime, *, clock_doubted: bool = False) -> TaskUpdate:
    """Return the update for a completed task without any result.

    Within RESULT_WAIT the task counts as unfinished, with a note. After that it is completed, with the provider's
    reason as its error and a warning that it was paid; not while the clock is doubted. Any other update is returned
    unchanged.
    """
    fact = update.fact
    if fact is None or fact.guessed or not fact.without_result or task.final:
        return update
    since = first_empty(task, now)
    error = fact.error or NO_RESULT
    if now >= since + RESULT_WAIT and not clock_doubted:
        warning = PAID_WITHOUT_RESULT + error.message
        return replace(update, fact=replace_fields(fact, error=error, warnings=(*fact.warnings, warning)))
    until = rfc3339(since + RESULT_WAIT)
    note = (
        f"the upstream reports it as completed without any result ({error.message[:80]}); waits for one until {until}"
    )
    if update.source is Source.CALLBACK:  # without a poll nothing is known of a task that is still unfinished
        return replace(update, fact=None, source=None, note=note)
    return replace(update, fact=replace_fields(fact, status=Status.IN_PROGRESS, error=None), note=note)


def first_empty(task: Task, now: datetime) -> datetime:
    """Return when the provider first reported the task as completed without any result: now, if it had not before."""
    return min(task.empty_since or now, now)  # after a clock that moved backwards


def note_on_word(word: str, since: datetime) -> str:
    """Return the note on a task whose status word has no known meaning."""
    return f'the upstream reports the status "{word}", which is not known here, since {rfc3339(since)}'


def with_observations(task: Task, fact: Fact | None, *, awaited: bool, now: datetime) -> Task:
    """Return the task with what a reply or a poll shows about its end: no result yet, or a word of unknown meaning.

    `fact` is None for an answer that could not be used: it changes nothing. `awaited` is true if `await_result` has
    turned a completed task into an unfinished one.
    """
    if awaited:
        task = replace_fields(task, empty_since=first_empty(task, now))
    if fact is None or fact.guessed:
        return task
    if fact.word:
        since = task.status_since if task.status_word == fact.word and task.status_since else now
        return replace_fields(task, status_word=fact.word, status_since=since)
    still_empty = awaited or fact.status is Status.COMPLETED
    return replace_fields(
        task, status_word=None, status_since=None, empty_since=task.empty_since if still_empty else None
    )
