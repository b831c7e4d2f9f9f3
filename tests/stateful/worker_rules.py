"""Updates that a worker records about its claims, and their effect on the model."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service.domain.task import Fact, Source, Status, Task, TaskError, UpstreamId, Usage
from service.domain.task_update import RESUBMITTED_WARNING, SUBMISSION_UNKNOWN, TaskUpdate, fact_to_json
from tests.stateful.model import ENDS, ENDS_WITHOUT_RESULT, Model, TaskModel
from tests.support.scripted_provider import VIDEO

REPLIES = ("in_progress", "completed", "refused", "never_left", "lost", "foreign")
ANSWERS = ("in_progress", "completed", "failed", "unwell", "abandoned", "again", "unconfirmed", "foreign", "nothing")
POLL_AGAIN_AFTER = timedelta(seconds=30)
DONE = Fact(status=Status.COMPLETED, output=(VIDEO,), usage=Usage(cost="0.35"))


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A leased task, as it was when it was claimed."""

    task: Task = field(repr=False)

    @property
    def own_id(self) -> UpstreamId:
        """Return the provider id of this submission."""
        return UpstreamId(f"up-{self.task.id}-{self.task.submission}")


def fact_of(status: str, upstream_id: UpstreamId | None) -> Fact:
    """Return a fact with the status."""
    if status == "completed":
        return replace(DONE, upstream_id=upstream_id)
    return Fact(
        status=Status(status),
        upstream_id=upstream_id,
        progress=0.5 if status == "in_progress" else None,
        error=TaskError(code="failed", message="no") if status == "failed" else None,
    )


def reply(claimed: Claimed, word: str, foreign: UpstreamId | None, now: datetime) -> TaskUpdate:
    """Return the update that a worker records for the reply to its submission."""
    task = claimed.task
    conclusion = TaskUpdate(task_id=task.id, fact=_guess(Status.IN_DOUBT), fence=task.fence, requires_lease=True)
    if word == "lost":
        return conclusion
    if word == "never_left":
        return replace(conclusion, fact=_guess(Status.QUEUED), tried=True, due_at=now + POLL_AGAIN_AFTER, note="waits")
    names = {"foreign": foreign or claimed.own_id, "refused": None}
    status = {"refused": "failed", "foreign": "in_progress"}.get(word, word)
    fact = fact_of(status, names.get(word, claimed.own_id))
    return TaskUpdate(task_id=task.id, fact=fact, source=Source.SUBMIT, fence=task.fence, submission=task.submission)


def apply_reply(model: Model, entry: TaskUpdate, now: datetime) -> None:
    """Apply a recorded reply to the model."""
    one, fact = model.tasks[entry.task_id], entry.fact
    assert fact is not None
    if entry.requires_lease:
        _apply_own_conclusion(one, entry, now, with_unread_callbacks=one.id in model.with_unread_callbacks)
        return
    submission = entry.submission or 0
    if submission < one.submission and fact.status.value in ENDS_WITHOUT_RESULT:
        return
    _apply_fact(model, one, fact, reply=True)
    one.release(entry.fence)


def _apply_own_conclusion(one: TaskModel, entry: TaskUpdate, now: datetime, *, with_unread_callbacks: bool) -> None:
    """Apply a worker's own conclusion to the model, which counts only while its lease is valid.

    While the task has an unread callback, it neither expires nor is queued again.
    """
    if entry.fence != one.fence:
        return
    assert entry.fact is not None
    if with_unread_callbacks and entry.fact.status in {Status.QUEUED, Status.FAILED}:
        one.hint(ended=False)
        one.apply("in_doubt", guessed=True)
    elif entry.fact.status is Status.QUEUED:
        one.requeue(entry.due_at or now)
    else:
        one.apply(entry.fact.status.value, guessed=True)
    if entry.expires:
        one.expire(now)
    one.release(entry.fence)


def _apply_fact(model: Model, one: TaskModel, fact: Fact, *, reply: bool) -> None:
    """Apply the provider's report; one about another task only shows that a reply arrived."""
    if model.holder(fact.upstream_id) in {None, one.id}:
        one.apply(fact.status.value, upstream_id=fact.upstream_id, reply=reply)
    elif reply:
        one.apply("in_doubt", guessed=True)


def answer(claimed: Claimed, word: str, foreign: UpstreamId | None, now: datetime) -> TaskUpdate:
    """Return the update that a worker records for the result of its poll."""
    task = claimed.task
    polled_id = task.upstream_id or task.hinted_id or claimed.own_id
    plain = TaskUpdate(task_id=task.id, fence=task.fence, expires=True)
    if word == "nothing":
        return plain
    if word in {"abandoned", "again"}:
        guess = (
            replace(_guess(Status.FAILED), error=SUBMISSION_UNKNOWN) if word == "abandoned" else _guess(Status.QUEUED)
        )
        conclusion = replace(plain, fact=guess, requires_lease=True, poll="not found")
        return replace(conclusion, due_at=now, warning=RESUBMITTED_WARNING) if word == "again" else conclusion
    if word == "unconfirmed":
        fact = replace(DONE, unconfirmed=True)
        assert fact_to_json(fact)["status"] == "completed"
        return replace(plain, fact=fact, source=Source.CALLBACK, poll="unknown")
    if word == "unwell":
        return replace(plain, source=Source.POLL, poll="unwell")
    fact = fact_of(
        "in_progress" if word == "foreign" else word, foreign or polled_id if word == "foreign" else polled_id
    )
    return replace(plain, fact=fact, source=Source.POLL, poll=fact.status.value)


def apply_answer(model: Model, entry: TaskUpdate, now: datetime) -> None:
    """Apply a recorded poll result to the model."""
    one = model.tasks[entry.task_id]
    if entry.requires_lease:
        _apply_own_conclusion(one, entry, now, with_unread_callbacks=one.id in model.with_unread_callbacks)
        return
    if entry.fact and entry.source is Source.CALLBACK:
        one.apply(entry.fact.status.value)
    elif entry.fact:
        _apply_fact(model, one, entry.fact, reply=False)
    if entry.fence == one.fence:
        one.expire(now)
    one.release(entry.fence)


def _guess(status: Status) -> Fact:
    return Fact(status=status, guessed=True)


def apply_callback(
    model: Model, task_id: str, submission: int, word: str, upstream_id: str | None, *, confirm: bool
) -> None:
    """Apply a new callback to the model."""
    one = model.tasks.get(task_id)
    if one is None:
        return
    status = {"processing": "in_progress"}.get(word, word)
    past = submission < one.submission and status in ENDS_WITHOUT_RESULT
    if model.holder(upstream_id) not in {None, task_id} or word == "unreadable":
        one.hint(ended=False)
    elif past:
        return
    elif status not in ENDS:
        _apply_status(one, status, upstream_id)
    elif confirm:
        one.hint(ended=True, upstream_id=upstream_id)
    else:
        one.apply(status)


def _apply_status(one: TaskModel, status: str, upstream_id: str | None) -> None:
    if one.upstream_id:
        one.apply(status)
    else:
        one.hint(ended=False, upstream_id=upstream_id)
