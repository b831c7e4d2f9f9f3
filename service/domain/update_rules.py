"""What an update makes of the task it is about. Only computes."""

from dataclasses import replace
from datetime import datetime, timedelta

from service.domain.artifact import Artifact
from service.domain.fast_copy import replace_fields
from service.domain.poll_planner import PollPlanner
from service.domain.task import EventType, Fact, Json, Source, Status, Step, Task, UpstreamId, advance
from service.domain.task_update import NOTHING_MADE, UNREADABLE, Hint, TaskUpdate

CONFLICTING_ID_NOTE = "the upstream named this task as it had named another one: what became of it is not known"
EAGER_POLLS = 32
MIN_POLL_GAP = timedelta(seconds=1)


def applies(entry: TaskUpdate, task: Task) -> bool:
    """Return whether `entry` may do anything to `task` at all."""
    if entry.only_if and task.status is not entry.only_if:
        return False
    if entry.requires_lease and entry.fence != task.fence:
        return False
    if entry.warning in task.warnings:
        return False
    return not _about_the_past(entry, task)


def _about_the_past(entry: TaskUpdate, task: Task) -> bool:
    """Whether an older submission came to nothing: that says nothing about the one that came after it."""
    older = entry.submission is not None and entry.submission < task.submission
    if entry.hint:
        return older and entry.hint.nothing_made
    return older and entry.fact is not None and entry.fact.status in NOTHING_MADE


def apply(entry: TaskUpdate, before: Task, planner: PollPlanner, now: datetime) -> Step:
    """Return the task after `entry`, with its next step planned, and what happened."""
    entry = _without_a_second_bill(_as_hint_while_nameless(entry, before), before)
    step = _expired(entry, before, _advanced(entry, before, now), now)
    after = _with_lease_returned(entry, before, step.task)
    after = _with_poll_counted(entry, after, now)
    after = _with_hint(entry, after, now)
    if after is before and entry.warning:  # a mark alone moves nothing
        return Step(task=replace_fields(before, warnings=(*before.warnings, entry.warning)))
    asked_for, note = (None, None) if after.final else (entry.due_at, entry.note)  # what is over waits no more
    due_at = asked_for or _due(entry, before, after, planner, now)
    warnings = (*after.warnings, entry.warning) if entry.warning and step.task is not before else after.warnings
    return Step(task=replace_fields(after, due_at=due_at, note=note, warnings=warnings), events=step.events)


def guesses(entry: TaskUpdate) -> bool:
    """Return whether `entry` concludes from the upstream's silence that a task never left, or came to nothing."""
    fact = entry.fact
    return fact is not None and fact.guessed and fact.status in {Status.QUEUED, Status.FAILED}


def after_unread_callback(entry: TaskUpdate) -> list[TaskUpdate]:
    """Return what is left of a guess about a task that an unread callback speaks of: it is asked about once more."""
    return [TaskUpdate.unreadable_callback(entry.task_id, None), _doubted(_without_plans(entry))]


def conflicting_id(entry: TaskUpdate, task: Task | None) -> UpstreamId | None:
    """Return the id that `entry` brings and that is not the task's own, to be looked up before it is believed."""
    if task is None:
        return None
    told = entry.hint.upstream_id if entry.hint else entry.named_id or (entry.fact.upstream_id if entry.fact else None)
    return told if told != task.upstream_id else None


def without_conflicting_id(entry: TaskUpdate) -> TaskUpdate:
    """Return what is left of an entry that brings another task's id: no result of theirs ever becomes ours.

    Of a callback, that somebody spoke of the task; of a poll, that it was asked; of a reply, that one came.
    """
    if entry.inbox:
        return replace(entry, fact=None, source=None, hint=UNREADABLE)
    if entry.source is Source.SUBMIT:
        return replace(entry, fact=Fact(status=Status.IN_DOUBT, guessed=True), source=None, note=CONFLICTING_ID_NOTE)
    return replace(entry, fact=None, source=None, poll="foreign")


def _as_hint_while_nameless(entry: TaskUpdate, task: Task) -> TaskUpdate:
    """Turn a callback's "in progress" into a hint while we have no id of our own to ask about."""
    news = entry.source is Source.CALLBACK and entry.fact is not None and not entry.fact.settles
    if not news or task.upstream_id:
        return entry
    return replace(entry, fact=None, source=None, hint=Hint(upstream_id=entry.named_id, ended=False))


def _without_a_second_bill(entry: TaskUpdate, task: Task) -> TaskUpdate:
    """Doubt that a task never left when a callback spoke of it: it is asked about, and not sent again."""
    if entry.hint:
        return _doubted(entry) if task.status is Status.QUEUED else entry
    again = entry.fact is not None and entry.fact.status is Status.QUEUED
    if not again or not (task.hinted_at or task.hinted_id):
        return entry
    return _doubted(_without_plans(entry))


def _without_plans(entry: TaskUpdate) -> TaskUpdate:
    return replace(entry, due_at=None, tried=False, note=None, warning=None)


def _doubted(entry: TaskUpdate) -> TaskUpdate:
    return replace(entry, fact=Fact(status=Status.IN_DOUBT, guessed=True), source=None)


def _advanced(entry: TaskUpdate, task: Task, now: datetime) -> Step:
    if entry.artifact:
        return _keep(task, entry.artifact)
    step = advance(task, entry.fact, now, source=_road(entry, task)) if entry.fact else None
    return step or Step(task=_with_late_id(entry, task))


def _expired(entry: TaskUpdate, before: Task, step: Step, now: datetime) -> Step:
    """Let the task expire, too, when its deadline has passed and the lease in hand is still ours."""
    if not entry.expires or entry.fence != before.fence or now < step.task.deadline_at:
        return step
    expired = advance(step.task, Fact(status=Status.EXPIRED, guessed=True), now, source=None)
    return Step(task=expired.task, events=(*step.events, *expired.events)) if expired else step


def _road(entry: TaskUpdate, task: Task) -> Source | None:
    """Return by which road a fact came: where a poll confirms what a callback told, it is the callback's."""
    confirmed = entry.source is Source.POLL and entry.fact is not None and entry.fact.settles and task.hinted_at
    return Source.CALLBACK if confirmed else entry.source


def _with_late_id(entry: TaskUpdate, task: Task) -> Task:
    """Learn the id from a reply that comes after the end: the fact changes nothing else any more."""
    told = entry.fact.upstream_id if entry.fact and entry.source is Source.SUBMIT else None
    return replace_fields(task, upstream_id=told) if told and task.upstream_id is None else task


def _with_lease_returned(entry: TaskUpdate, before: Task, after: Task) -> Task:
    if entry.fence is None or entry.fence != before.fence:
        return after
    return replace_fields(after, leased_until=None, tries=after.tries + 1 if entry.tried else 0)


def _with_poll_counted(entry: TaskUpdate, task: Task, now: datetime) -> Task:
    if entry.source is not Source.POLL:
        return task
    still = entry.fact is not None and entry.fact.status is Status.IN_PROGRESS
    return replace_fields(task, polls=task.polls + 1, polled_at=now if still else task.polled_at)


def _with_hint(entry: TaskUpdate, task: Task, now: datetime) -> Task:
    if entry.source is Source.CALLBACK and entry.fact and entry.fact.settles:
        return replace_fields(task, hinted_at=task.hinted_at or now)
    if entry.hint is None or task.final:
        return task
    hinted_id = entry.hint.upstream_id or task.hinted_id
    alive = entry.hint.ended or not (task.upstream_id or hinted_id)
    return replace_fields(
        task,
        hinted_at=task.hinted_at or (now if alive else None),
        hinted_id=hinted_id,
        hinted_fact=entry.hint.fact or task.hinted_fact,
    )


def _due(entry: TaskUpdate, before: Task, after: Task, planner: PollPlanner, now: datetime) -> datetime | None:
    if entry.hint and not after.final:
        return _hinted_due(after, now)
    due_at = planner.due(after, now)
    if entry.source is not Source.CALLBACK or before.due_at is None or due_at is None:
        return due_at
    return min(before.due_at, due_at)  # a callback brings a question forward, and never puts it off


def _hinted_due(task: Task, now: datetime) -> datetime:
    """Ask at once what a hint is worth; of a task that was hinted at again and again, once in a BREATHER."""
    if task.polls < EAGER_POLLS or task.polled_at is None:
        return now
    return max(now, task.polled_at + MIN_POLL_GAP)


def _keep(task: Task, artifact: Artifact) -> Step:
    """Note where a result is kept; a second time changes nothing."""
    kept = tuple(_archived(item, artifact) for item in task.output)
    if kept == task.output:
        return Step(task=task)
    return Step(task=replace_fields(task, output=kept), events=(EventType.ARTIFACT_STORED,))


def _archived(item: Json, artifact: Artifact) -> Json:
    return item | {"archived_url": artifact.archived_url} if item.get("url") == artifact.url else item
