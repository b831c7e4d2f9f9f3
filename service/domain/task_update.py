"""The update to record for one task, and the result of recording it."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from service.domain.artifact import Artifact
from service.domain.callback import Callback
from service.domain.fast_copy import replace_fields
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import EventType, Fact, Json, Source, Status, Task, TaskError, TaskId, UpstreamId, Usage
from service.domain.task_wait import Wait

RESUBMITTED_WARNING = (
    "the reply to a submission was lost, and the task was submitted again: the upstream may bill it twice"
)
"""Marks a task that was submitted again in doubt: the operator approves a second charge, not a third.

Stored among the task's warnings and compared with them. If the text changes, a task may be charged a third time.
"""

SUBMISSION_UNKNOWN = TaskError(
    code="submission_unknown",
    message=(
        "the reply to the submission was lost and nothing came after it; submit again if you accept a duplicate charge"
    ),
)

NOTHING_MADE = frozenset({Status.FAILED, Status.CANCELED})
"""Terminal statuses without a result."""


@dataclass(frozen=True, kw_only=True)
class Hint:
    """The content of a callback that a poll must confirm.

    `upstream_id` is the id that it named. `fact` is its fact, where the body carried our payload token. `ended` is true
    if it reports a terminal status; if not, the task is alive or the body is unreadable. `nothing_made` is true if the
    terminal status is failed or canceled.
    """

    upstream_id: UpstreamId | None = None
    fact: Json | None = field(default=None, repr=False)
    ended: bool = True
    nothing_made: bool = False


UNREADABLE = Hint(ended=False)


@dataclass(frozen=True, kw_only=True)
class TaskUpdate:
    """Something to record about one task; the class methods build each kind.

    `fence` is that of the caller's lease, which is released if it is still valid. With `requires_lease` the update has
    no effect once the lease was lost; with `only_if`, no effect on a task of another status. `submission` is the
    submission that the fact is about. `due_at` takes precedence over the poll planner. `named_id` is the id in a
    callback's body, which the provider's GET may not know. `tried` counts an attempt to submit that was not sent.

    With `keeps_schedule` the task's next step stays due when it was: the poll came in between and is not counted.
    `waits` are what the task waited for, for its history.

    `warning` is stored with the task if the update advances it or carries nothing else; an update whose warning is
    stored already has no effect. `poll` is the outcome of a poll. With `expires` a task past its deadline expires in
    the same commit: otherwise its next step is due again at once, without end.
    """

    task_id: TaskId
    fact: Fact | None = None
    source: Source | None = None
    fence: int | None = None
    requires_lease: bool = False
    only_if: Status | None = None
    submission: int | None = None
    due_at: datetime | None = None
    tried: bool = False
    note: str | None = None
    warning: str | None = None
    inbox: InboxEntry | None = field(default=None, repr=False)
    named_id: UpstreamId | None = None
    hint: Hint | None = None
    artifact: Artifact | None = None
    poll: str | None = None
    expires: bool = False
    waits: tuple[Wait, ...] = ()
    keeps_schedule: bool = False

    @property
    def named_by_provider(self) -> UpstreamId | None:
        """Return the provider's id of the task, where the update names one."""
        if self.hint:
            return self.hint.upstream_id
        return self.named_id or (self.fact.upstream_id if self.fact else None)

    @property
    def is_guess(self) -> bool:
        """Whether it concludes from the provider's silence that a task was not sent, or made nothing."""
        return self.fact is not None and self.fact.guessed and self.fact.status in {Status.QUEUED, Status.FAILED}

    # ── submissions ──────────────────────────────────────────────────────────

    @classmethod
    def reply(cls, task: Task, fact: Fact) -> "TaskUpdate":
        """Return the update for the provider's reply to the submission of `task`."""
        return cls(task_id=task.id, fact=fact, source=Source.SUBMIT, fence=task.fence, submission=task.submission)

    @classmethod
    def in_doubt(cls, task: Task, note: str | None = None) -> "TaskUpdate":
        """Return the update for a submission that may have been sent and whose reply is lost; `note` describes it."""
        fact = Fact(status=Status.IN_DOUBT, guessed=True)
        return cls(task_id=task.id, fact=fact, fence=task.fence, requires_lease=True, note=note)

    @classmethod
    def abandoned(cls, task: Task) -> "TaskUpdate":
        """Return the update for a submission whose lease ran out: in doubt, unless something is known by now."""
        return replace(cls.in_doubt(task), only_if=Status.SUBMITTING)

    @classmethod
    def requeue(cls, task: Task, due_at: datetime) -> "TaskUpdate":
        """Return the update for a submission that was not started, to be submitted at `due_at`."""
        fact = Fact(status=Status.QUEUED, guessed=True)
        return cls(task_id=task.id, fact=fact, fence=task.fence, requires_lease=True, due_at=due_at)

    @classmethod
    def retry(cls, task: Task, due_at: datetime, note: str | None, wait: Wait) -> "TaskUpdate":
        """Return the update for an attempt to submit that was not sent, to be tried again at `due_at`."""
        return replace(cls.requeue(task, due_at), tried=True, note=note, waits=(wait,))

    # ── polls ────────────────────────────────────────────────────────────────

    @classmethod
    def poll_result(cls, task: Task, fact: Fact) -> "TaskUpdate":
        """Return the update for the answer to a poll."""
        return cls(
            task_id=task.id, fact=fact, source=Source.POLL, fence=task.fence, poll=fact.status.value, expires=True
        )

    @classmethod
    def no_answer(
        cls, task: Task, outcome: str, *, due_at: datetime | None = None, note: str | None = None
    ) -> "TaskUpdate":
        """Return the update for a poll without information about the task; `outcome` is for its history."""
        return cls(
            task_id=task.id,
            source=Source.POLL,
            fence=task.fence,
            poll=outcome,
            due_at=due_at,
            note=note,
            expires=True,
        )

    @classmethod
    def not_polled(
        cls, task: Task, *, due_at: datetime | None = None, outcome: str | None = None, note: str | None = None
    ) -> "TaskUpdate":
        """Return the update that releases a lease without a poll, or after one that the provider refused to serve.

        Without a `note` the task's own one stays.
        """
        note = task.note if note is None else note
        return cls(task_id=task.id, fence=task.fence, poll=outcome, due_at=due_at, note=note, expires=True)

    def in_between(self, task: Task) -> "TaskUpdate":
        """Return this result of a poll for somebody who watches: only what is new counts, and the schedule stays."""
        if self.fact is None:
            return replace(TaskUpdate.not_polled(task), keeps_schedule=True)
        if self.fact.status is Status.IN_PROGRESS:
            return replace(self, poll=None, keeps_schedule=True)
        return self

    @classmethod
    def unconfirmed(cls, task: Task, fact: Fact) -> "TaskUpdate":
        """Return the update that accepts the fact of a callback which no poll can confirm."""
        fact = replace(fact, upstream_id=None, unconfirmed=True)
        return cls(task_id=task.id, fact=fact, source=Source.CALLBACK, fence=task.fence, poll="unknown", expires=True)

    @classmethod
    def resubmit(cls, task: Task, now: datetime, outcome: str) -> "TaskUpdate":
        """Return the update that queues a submission in doubt again, with the warning that it may be charged twice."""
        return replace(cls.requeue(task, now), warning=RESUBMITTED_WARNING, poll=outcome, expires=True)

    @classmethod
    def submission_unknown(cls, task: Task, outcome: str) -> "TaskUpdate":
        """Return the update that fails a task in doubt, since nothing is known of its submission in time."""
        fact = Fact(status=Status.FAILED, guessed=True, error=SUBMISSION_UNKNOWN)
        return cls(task_id=task.id, fact=fact, fence=task.fence, requires_lease=True, poll=outcome, expires=True)

    # ── callbacks ────────────────────────────────────────────────────────────

    @classmethod
    def callback(cls, callback: Callback, row: InboxEntry, *, confirm: bool) -> "TaskUpdate":
        """Return the update for a callback; with `confirm` one that reports a terminal status is a hint for a poll.

        One that reports a completed task without any result always is: a result may follow. A hint keeps the fact
        only if the body carried our payload token: the fact may have to replace a poll.
        """
        fact = callback.fact
        if not ((confirm and fact.settles) or fact.without_result):
            return cls(
                task_id=row.task_id,
                submission=row.submission,
                inbox=row,
                fact=replace_fields(fact, upstream_id=None),
                source=Source.CALLBACK,
                named_id=fact.upstream_id,
            )
        hint = Hint(
            upstream_id=fact.upstream_id,
            fact=fact_to_json(fact) if callback.correlated else None,
            nothing_made=fact.status in NOTHING_MADE,
        )
        return cls(task_id=row.task_id, submission=row.submission, inbox=row, hint=hint)

    @classmethod
    def callback_over_quota(cls, callback: Callback) -> "TaskUpdate":
        """Return the update for a callback that is not stored: the task is polled."""
        hint = Hint(ended=callback.fact.settles, nothing_made=callback.fact.status in NOTHING_MADE)
        return cls(task_id=callback.task_id, submission=callback.submission, hint=hint)

    @classmethod
    def unreadable_callback(cls, task_id: TaskId, row: InboxEntry | None) -> "TaskUpdate":
        """Return the update for a callback with an unreadable body, stored as `row` or not at all."""
        return cls(task_id=task_id, inbox=row, hint=UNREADABLE)

    # ── clients and handlers ─────────────────────────────────────────────────

    @classmethod
    def cancel_queued(cls, task_id: TaskId) -> "TaskUpdate":
        """Return the update that cancels a task if it is still queued."""
        return replace(cls.canceled(task_id), only_if=Status.QUEUED)

    @classmethod
    def canceled(cls, task_id: TaskId) -> "TaskUpdate":
        """Return the update for a task that the provider has canceled."""
        return cls(task_id=task_id, fact=Fact(status=Status.CANCELED))

    @classmethod
    def resubmitted(cls, task_id: TaskId) -> "TaskUpdate":
        """Return the update that marks a task in doubt, so that it is not submitted again without a client's call."""
        return cls(task_id=task_id, warning=RESUBMITTED_WARNING, only_if=Status.IN_DOUBT)

    @classmethod
    def stored_artifact(cls, task_id: TaskId, artifact: Artifact) -> "TaskUpdate":
        """Return the update for a result that a handler has stored."""
        return cls(task_id=task_id, artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """The result of an update.

    `task` is the task after it, None for an unknown task. `inbox` is the inbox's result for its callback: `new`,
    `repeated`, `nonce_reused`, or `settled` for a final task, whose callbacks are not stored. `poll` is the outcome of
    its poll, for the task's history. `cost_fault` is what is wrong with the cost in its fact, see `Pricing.fault`.
    """

    task: Task | None
    inbox: str | None = None
    events: tuple[EventType, ...] = ()
    poll: str | None = None
    cost_fault: str | None = None


def fact_to_json(fact: Fact) -> Json:
    """Return `fact` as JSON values, without its correlation token and without what only a poll uses."""
    data = vars(fact) | {
        "status": fact.status.value,
        "output": list(fact.output),
        "error": dict(vars(fact.error)) if fact.error else None,
        "usage": dict(vars(fact.usage)) if fact.usage else None,
    }
    return {name: value for name, value in data.items() if name not in {"correlation", "word", "warnings"}}


def fact_from_json(data: Json) -> Fact:
    """Return the fact that `fact_to_json` wrote."""
    return Fact(
        status=Status(data["status"]),
        upstream_id=UpstreamId(data["upstream_id"]) if data["upstream_id"] else None,
        progress=data["progress"],
        output=tuple(data["output"]),
        error=TaskError(**data["error"]) if data["error"] else None,
        usage=Usage(**data["usage"]) if data["usage"] else None,
        guessed=data["guessed"],
        unconfirmed=data["unconfirmed"],
        credits=data.get("credits"),
        faulty_cost=data.get("faulty_cost", False),  # the release before stores neither
    )
