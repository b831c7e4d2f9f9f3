"""What a worker records about a claim in its hands, as `Submit` and `Reconcile` do; and what the model makes of it."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service.domain.fact_json import fact_to_json
from service.domain.task import Fact, Source, Status, Task, TaskError, UpstreamId, Usage
from service.domain.task_update import RESUBMITTED_WARNING, SUBMISSION_UNKNOWN, TaskUpdate
from tests.stateful.model import ENDS, NOTHING_MADE, Model, TaskModel
from tests.support.scripted_provider import VIDEO

REPLIES = ("in_progress", "completed", "refused", "never_left", "lost", "foreign")
ANSWERS = ("in_progress", "completed", "failed", "unwell", "given_up", "again", "believed", "foreign", "nothing")
AGAIN_AFTER = timedelta(seconds=30)
DONE = Fact(status=Status.COMPLETED, output=(VIDEO,), usage=Usage(cost="0.35"))


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A task in somebody's hands, as it was when it was claimed; `left` says that its request may have left."""

    task: Task = field(repr=False)

    @property
    def own_id(self) -> UpstreamId:
        """Return what the upstream calls this submission."""
        return UpstreamId(f"up-{self.task.id}-{self.task.submission}")


def fact_of(status: str, upstream_id: UpstreamId | None) -> Fact:
    """Return what the upstream says."""
    if status == "completed":
        return replace(DONE, upstream_id=upstream_id)
    return Fact(
        status=Status(status),
        upstream_id=upstream_id,
        progress=0.5 if status == "in_progress" else None,
        error=TaskError(code="failed", message="no") if status == "failed" else None,
    )


def reply(claimed: Claimed, word: str, foreign: UpstreamId | None, now: datetime) -> TaskUpdate:
    """Return what a worker records about the reply to its submission."""
    task = claimed.task
    ours = TaskUpdate(task_id=task.id, fact=_guess(Status.IN_DOUBT), fence=task.fence, requires_lease=True)
    if word == "lost":
        return ours
    if word == "never_left":
        return replace(ours, fact=_guess(Status.QUEUED), tried=True, due_at=now + AGAIN_AFTER, note="waits")
    names = {"foreign": foreign or claimed.own_id, "refused": None}
    status = {"refused": "failed", "foreign": "in_progress"}.get(word, word)
    fact = fact_of(status, names.get(word, claimed.own_id))
    return TaskUpdate(task_id=task.id, fact=fact, source=Source.SUBMIT, fence=task.fence, submission=task.submission)


def hear_reply(model: Model, entry: TaskUpdate, now: datetime) -> None:
    """Let the model take what was recorded about a reply."""
    one, fact = model.tasks[entry.task_id], entry.fact
    assert fact is not None
    if entry.requires_lease:
        _hear_ours(one, entry, now, with_unread_callbacks=one.id in model.with_unread_callbacks)
        return
    submission = entry.submission or 0
    if submission < one.submission and fact.status.value in NOTHING_MADE:
        return
    _hear_word(model, one, fact, reply=True)
    one.give_back(entry.fence)


def _hear_ours(one: TaskModel, entry: TaskUpdate, now: datetime, *, with_unread_callbacks: bool) -> None:
    """Let the model take a conclusion of a worker's own, which counts only while the task is in its hands.

    While an unread callback speaks of the task, it is neither given up nor queued again.
    """
    if entry.fence != one.fence:
        return
    assert entry.fact is not None
    if with_unread_callbacks and entry.fact.status in {Status.QUEUED, Status.FAILED}:
        one.hint(ended=False)
        one.hear("in_doubt", guessed=True)
    elif entry.fact.status is Status.QUEUED:
        one.never_left(entry.due_at or now)
    else:
        one.hear(entry.fact.status.value, guessed=True)
    if entry.expires:
        one.expire(now)
    one.give_back(entry.fence)


def _hear_word(model: Model, one: TaskModel, fact: Fact, *, reply: bool) -> None:
    """Let the model take the upstream's word; one about another's task says nothing, but for that a reply came."""
    if model.holder(fact.upstream_id) in {None, one.id}:
        one.hear(fact.status.value, upstream_id=fact.upstream_id, reply=reply)
    elif reply:
        one.hear("in_doubt", guessed=True)


def answer(claimed: Claimed, word: str, foreign: UpstreamId | None, now: datetime) -> TaskUpdate:
    """Return what a worker records about an answer to its question."""
    task = claimed.task
    asked = task.upstream_id or task.hinted_id or claimed.own_id
    plain = TaskUpdate(task_id=task.id, fence=task.fence, expires=True)
    if word == "nothing":
        return plain
    if word in {"given_up", "again"}:
        guess = (
            replace(_guess(Status.FAILED), error=SUBMISSION_UNKNOWN) if word == "given_up" else _guess(Status.QUEUED)
        )
        ours = replace(plain, fact=guess, requires_lease=True, poll="not found")
        return replace(ours, due_at=now, warning=RESUBMITTED_WARNING) if word == "again" else ours
    if word == "believed":
        fact = replace(DONE, unconfirmed=True)
        assert fact_to_json(fact)["status"] == "completed"
        return replace(plain, fact=fact, source=Source.CALLBACK, poll="unknown")
    if word == "unwell":
        return replace(plain, source=Source.POLL, poll="unwell")
    told = fact_of("in_progress" if word == "foreign" else word, foreign or asked if word == "foreign" else asked)
    return replace(plain, fact=told, source=Source.POLL, poll=told.status.value)


def hear_answer(model: Model, entry: TaskUpdate, now: datetime) -> None:
    """Let the model take what was recorded about an answer."""
    one = model.tasks[entry.task_id]
    if entry.requires_lease:
        _hear_ours(one, entry, now, with_unread_callbacks=one.id in model.with_unread_callbacks)
        return
    if entry.fact and entry.source is Source.CALLBACK:
        one.hear(entry.fact.status.value)
    elif entry.fact:
        _hear_word(model, one, entry.fact, reply=False)
    if entry.fence == one.fence:
        one.expire(now)
    one.give_back(entry.fence)


def _guess(status: Status) -> Fact:
    return Fact(status=status, guessed=True)


def hear_callback(
    model: Model, task_id: str, submission: int, word: str, upstream_id: str | None, *, confirm: bool
) -> None:
    """Let the model take a callback that was not heard before."""
    one = model.tasks.get(task_id)
    if one is None:
        return
    status = {"processing": "in_progress"}.get(word, word)
    past = submission < one.submission and status in NOTHING_MADE
    if model.holder(upstream_id) not in {None, task_id} or word == "unreadable":
        one.hint(ended=False)
    elif past:
        return
    elif status not in ENDS:
        _hear_news(one, status, upstream_id)
    elif confirm:
        one.hint(ended=True, upstream_id=upstream_id)
    else:
        one.hear(status)


def _hear_news(one: TaskModel, status: str, upstream_id: str | None) -> None:
    if one.upstream_id:
        one.hear(status)
    else:
        one.hint(ended=False, upstream_id=upstream_id)
