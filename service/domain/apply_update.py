"""Apply an update to its task. Only computes."""

from collections.abc import Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service.domain.artifact import Artifact
from service.domain.fast_copy import replace_fields
from service.domain.poll_planner import PollPlanner
from service.domain.prices import Pricing
from service.domain.result_wait import await_result, note_on_word, with_observations
from service.domain.task import EventType, Fact, Source, Status, Step, Task, TaskId, UpstreamId, advance
from service.domain.task_update import NOTHING_MADE, UNREADABLE, Hint, TaskUpdate, UpdateResult

CONFLICTING_ID_NOTE = "the upstream named this task as it had named another one: what became of it is not known"
"""Stored as a task's note."""

EAGER_POLLS = 32
"""Polls of a task up to which each hint is followed by a poll at once."""

MIN_POLL_GAP = timedelta(seconds=1)
"""Least pause between the polls that hints cause after EAGER_POLLS."""

ANSWERS = frozenset({Source.SUBMIT, Source.POLL})
"""Sources of facts that answer a request of this service."""

NO_EVENTS: tuple[EventType, ...] = ()


@dataclass(kw_only=True, slots=True)
class UpdateContext:
    """The data of one transaction besides its tasks.

    `id_owners` maps the provider ids that its updates name to the tasks that hold them. `unread` are the tasks that
    have unread callbacks.
    """

    planner: PollPlanner
    now: datetime
    pricing: Pricing = field(default_factory=Pricing)
    id_owners: dict[UpstreamId, TaskId] = field(default_factory=dict)
    unread: Set[TaskId] = frozenset()


def apply_update(update: TaskUpdate, task: Task, context: UpdateContext) -> UpdateResult | None:
    """Return the task after `update`, the events and the outcome of its poll; None if the update has no effect."""
    named = update.named_by_provider
    if named and named != task.upstream_id and context.id_owners.get(named, task.id) != task.id:
        update = _without_conflicting_id(update)
    before, events = task, NO_EVENTS
    if task.id in context.unread and update.is_guess:
        before, events, update = _after_unread_callback(update, task, context)
    if not _applies(update, before):
        return UpdateResult(task=before, events=events) if before is not task else None
    step = _apply(update, before, context)
    fault = context.pricing.fault(update.fact) if update.fact and step.task is not before else None
    return UpdateResult(task=step.task, events=(*events, *step.events), poll=update.poll, cost_fault=fault)


def _after_unread_callback(
    guess: TaskUpdate, task: Task, context: UpdateContext
) -> tuple[Task, tuple[EventType, ...], TaskUpdate]:
    """Turn a guess about a task that has an unread callback into doubt, so that it is polled once more.

    Returns the task after the hint of the callback, the events of that, and the rest of the guess.
    """
    step = Step(task=task)
    if _applies(guess, task):
        step = _apply(TaskUpdate.unreadable_callback(task.id, None), task, context)
    return step.task, step.events, _doubted(_without_schedule(guess))


def _applies(update: TaskUpdate, task: Task) -> bool:
    """Return whether `update` may have any effect on `task`."""
    if update.only_if and task.status is not update.only_if:
        return False
    if update.requires_lease and update.fence != task.fence:
        return False
    if update.warning in task.warnings:
        return False
    if update.submission is None or update.submission >= task.submission:
        return True
    if update.hint:  # a failed older submission does not mean that the newer one failed
        return not update.hint.nothing_made
    return update.fact is None or update.fact.status not in NOTHING_MADE


def _without_conflicting_id(update: TaskUpdate) -> TaskUpdate:
    """Return the allowed part of an update that names another task's id: a result never goes to a second task.

    A callback still is a hint, a poll still counts, and a reply leaves the submission in doubt.
    """
    if update.inbox:
        return replace(update, fact=None, source=None, hint=UNREADABLE)
    if update.source is Source.SUBMIT:
        return replace(update, fact=Fact(status=Status.IN_DOUBT, guessed=True), source=None, note=CONFLICTING_ID_NOTE)
    return replace(update, fact=None, source=None, poll="foreign")


def _apply(update: TaskUpdate, before: Task, context: UpdateContext) -> Step:
    """Return the task after `update`, with its next step scheduled, and the events."""
    original = update
    update = await_result(update, before, context.now, clock_doubted=context.planner.clock_doubted())
    awaited = update is not original and (update.fact is None or not update.fact.settles)
    update = _without_duplicate_charge(_as_hint_without_id(update, before), before)
    step = _advanced(update, before, context.now)
    if update.expires and update.fence == before.fence:
        step = _expired(step, context)
    after = _charged(update, before, step.task, context.pricing)
    if update.fence is not None and update.fence == before.fence:
        after = replace_fields(after, leased_until=None, tries=after.tries + 1 if update.tried else 0)
    if update.source is Source.POLL:
        in_progress = update.fact is not None and update.fact.status is Status.IN_PROGRESS and not awaited
        after = replace_fields(
            after,
            polls=after.polls + int(not update.keeps_schedule),
            polled_at=context.now if in_progress else after.polled_at,
        )
    after = _with_hint(update, after, context.now)
    if awaited or update.source in ANSWERS:
        after = with_observations(after, update.fact, awaited=awaited, now=context.now)
    if update.warning and after is before:  # a warning alone changes nothing else
        return Step(task=replace_fields(before, warnings=(*before.warnings, update.warning)))
    warnings = (*after.warnings, update.warning) if update.warning and step.task is not before else after.warnings
    due_at, note = _due(update, before, after, context), _note(update, before, after)
    if after.final:  # nothing is due or waited for any more
        due_at = note = None
        after = replace_fields(after, status_word=None, status_since=None)
    return Step(task=replace_fields(after, due_at=due_at, note=note, warnings=warnings), events=step.events)


def _note(update: TaskUpdate, before: Task, after: Task) -> str | None:
    """Return what the task waits for; a hint does not end that wait, and neither does an unknown status word."""
    if update.note is None and update.source in ANSWERS and update.fact and update.fact.word and after.status_since:
        return note_on_word(update.fact.word, after.status_since)
    kept = update.hint and after.status is before.status
    return before.note if update.note is None and kept else update.note


def _as_hint_without_id(update: TaskUpdate, task: Task) -> TaskUpdate:
    """Turn a callback's "in progress" into a hint while the task has no provider id to poll by."""
    alive = update.source is Source.CALLBACK and update.fact is not None and not update.fact.settles
    if not alive or task.upstream_id:
        return update
    return replace(update, fact=None, source=None, hint=Hint(upstream_id=update.named_id, ended=False))


def _without_duplicate_charge(update: TaskUpdate, task: Task) -> TaskUpdate:
    """Prevent a duplicate charge: a task with a callback was sent, so it is in doubt and not queued."""
    if update.hint:
        return _doubted(update) if task.status is Status.QUEUED else update
    queued = update.fact is not None and update.fact.status is Status.QUEUED
    if not queued or not (task.hinted_at or task.hinted_id):
        return update
    return _doubted(_without_schedule(update))


def _without_schedule(update: TaskUpdate) -> TaskUpdate:
    return replace(update, due_at=None, tried=False, note=None, warning=None)


def _doubted(update: TaskUpdate) -> TaskUpdate:
    return replace(update, fact=Fact(status=Status.IN_DOUBT, guessed=True), source=None)


def _advanced(update: TaskUpdate, task: Task, now: datetime) -> Step:
    """Return the task after the update's fact or artifact."""
    fact, source = update.fact, update.source
    if update.artifact:
        return _with_artifact(task, update.artifact)
    if fact is None:
        return Step(task=task)
    if source is Source.POLL and fact.settles and task.hinted_at:
        source = Source.CALLBACK  # the poll confirms what a callback reported
    step = advance(task, fact, now, source=source)
    if step is None and source is Source.SUBMIT and fact.upstream_id and task.upstream_id is None:
        return Step(task=replace_fields(task, upstream_id=fact.upstream_id))  # a reply after the end adds its id alone
    if step and update.source is Source.POLL and fact.upstream_id:  # the provider knows this id, whoever named it
        return Step(task=replace_fields(step.task, upstream_id=fact.upstream_id), events=step.events)
    return step or Step(task=task)


def _charged(update: TaskUpdate, before: Task, after: Task, pricing: Pricing) -> Task:
    """Return the task with the cost that the fact reports; a lost submission that is queued again may be billed."""
    if after is before or update.fact is None:
        return after
    if before.status is Status.IN_DOUBT and after.status is Status.QUEUED:
        return replace_fields(after, cost=None, resubmissions=after.resubmissions + 1)
    cost = pricing.cost(update.fact)
    return after if cost is None else replace_fields(after, cost=cost)


def _expired(step: Step, context: UpdateContext) -> Step:
    """Return the step, with the task expired if its deadline has passed; an expired task makes no progress."""
    if not context.planner.overdue(step.task, context.now):
        return step
    expired = advance(step.task, Fact(status=Status.EXPIRED, guessed=True), context.now, source=None)
    if expired is None:
        return step
    kept = tuple(event for event in step.events if event is not EventType.PROGRESSED)
    return Step(task=expired.task, events=kept + expired.events)


def _with_hint(update: TaskUpdate, task: Task, now: datetime) -> Task:
    """Return the task with the hint of a callback, for the next poll."""
    if update.source is Source.CALLBACK and update.fact and update.fact.settles:
        return replace_fields(task, hinted_at=task.hinted_at or now)
    if update.hint is None or task.final:
        return task
    hinted_id = update.hint.upstream_id or task.hinted_id
    counts = update.hint.ended or not (task.upstream_id or hinted_id)
    return replace_fields(
        task,
        hinted_at=task.hinted_at or (now if counts else None),
        hinted_id=hinted_id,
        hinted_fact=update.hint.fact or task.hinted_fact,
    )


def _due(update: TaskUpdate, before: Task, after: Task, context: UpdateContext) -> datetime | None:
    """Return when the task's next step is due; after repeated hints, one poll in MIN_POLL_GAP."""
    if update.keeps_schedule and not after.final:
        return before.due_at
    if update.due_at and not after.final:
        return update.due_at
    if update.hint and not after.final:
        if after.polls < EAGER_POLLS or after.polled_at is None:
            return context.now
        return max(context.now, after.polled_at + MIN_POLL_GAP)
    due_at = context.planner.due(after, context.now)
    if update.source is not Source.CALLBACK or before.due_at is None or due_at is None:
        return due_at
    return min(before.due_at, due_at)  # a callback makes a poll earlier, never later


def _with_artifact(task: Task, artifact: Artifact) -> Step:
    """Note where a result is stored; a second time changes nothing, and without a new address there is no event."""
    known = artifact.output is not None and artifact.output < len(task.output)
    only = artifact.output if known and task.output[artifact.output or 0].get("url") == artifact.url else None
    output = tuple(
        item | artifact.details if item.get("url") == artifact.url and only in {None, position} else item
        for position, item in enumerate(task.output)
    )
    if output == task.output:
        return Step(task=task)
    moved = [item.get("archived_url") for item in output] != [item.get("archived_url") for item in task.output]
    return Step(task=replace_fields(task, output=output), events=(EventType.ARTIFACT_STORED,) if moved else ())
