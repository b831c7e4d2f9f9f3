"""A task, the facts about it, and the table of its transitions.

queued ──▶ submitting ──▶ in_progress ──▶ completed | failed | canceled      (settled: reported by the provider)
  ▲            │  │            │
  └─ not sent ─┘  └─▶ in_doubt ┴──▶ expired                                   (guessed: any later fact overrules it)

A queued task also becomes in doubt when a callback names it: then it was sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from service.domain.fast_copy import replace_fields

TaskId = NewType("TaskId", str)
UpstreamId = NewType("UpstreamId", str)

Json = dict[str, Any]
"""A JSON object in a column or a body."""


class Status(StrEnum):
    """The status of a task."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    IN_DOUBT = "in_doubt"
    EXPIRED = "expired"


SETTLED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED})
AT_UPSTREAM = frozenset({Status.SUBMITTING, Status.IN_PROGRESS, Status.IN_DOUBT})


class Source(StrEnum):
    """The source of a fact."""

    SUBMIT = "submit"
    CALLBACK = "callback"
    POLL = "poll"


class EventType(StrEnum):
    """Types of events, in the past tense."""

    SUBMITTED = "task.submitted"
    PROGRESSED = "task.progressed"
    IN_DOUBT = "task.in_doubt"
    COMPLETED = "task.completed"
    FAILED = "task.failed"
    CANCELED = "task.canceled"
    EXPIRED = "task.expired"
    ARTIFACT_STORED = "artifact.stored"


@dataclass(frozen=True, kw_only=True)
class TaskError:
    """Why a task failed: code and message of the provider, or our own (`submission_unknown`)."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The cost of a task in US dollars, as the provider wrote it, and the discount."""

    cost: str | None = None
    discount: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fact:
    """The content of a reply, a callback or a poll about a task, verified and in our terms.

    `guessed` marks our own conclusion, which any fact from the provider overrules. `correlation` is the payload token
    in the body. `unconfirmed` marks the body of a callback that no poll could confirm. `word` is the provider's status
    word if its meaning is not known: the task counts as unfinished then. `warnings` are for the task's owner.
    `credits` is the cost where the provider bills credits; `faulty_cost` is true if the body has a cost that is not an
    amount.
    """

    status: Status
    upstream_id: UpstreamId | None = None
    progress: float | None = None
    output: tuple[Json, ...] = ()
    error: TaskError | None = None
    usage: Usage | None = None
    guessed: bool = False
    unconfirmed: bool = False
    word: str | None = None
    warnings: tuple[str, ...] = ()
    credits: float | None = None
    faulty_cost: bool = False
    correlation: str | None = field(default=None, repr=False)

    @property
    def settles(self) -> bool:
        """Whether the status is completed, failed or canceled."""
        return self.status in SETTLED

    @property
    def without_result(self) -> bool:
        """Whether it reports a completed task and no result of it."""
        return self.status is Status.COMPLETED and not self.output


@dataclass(frozen=True, kw_only=True)
class Task:
    """The current state of one task. Times are aware and in UTC.

    `submission` counts the submissions, from 0 (none yet); `tries` counts attempts of the current one that were not
    sent. `due_at` is when the next step (submission or poll) is due, None if none is. `fence` grows with each claim;
    `leased_until` is the end of the current lease. `hinted_at` is when a callback first reported the end (or that the
    task is alive, without an id), `hinted_id` the provider's id in it; `hinted_fact` is its fact, if the body carried
    our payload token. `polled_at` is when the provider last reported "in progress". `guessed` is true if the status is
    our own conclusion. `empty_since` is when the provider first reported the task as completed without any result.
    `status_word` is the provider's last status word of unknown meaning, `status_since` when it came first. `cost` is
    the cost of the newest submission in US dollars, as reported; `resubmissions` counts earlier submissions whose
    reply was lost and that the provider may have billed. Of an erased task only id, times, cost and status are left.
    """

    id: TaskId
    client: str
    provider: str
    model: str
    bucket: str
    created_at: datetime
    deadline_at: datetime
    status: Status = Status.QUEUED
    guessed: bool = False
    unconfirmed: bool = False
    submission: int = 0
    tries: int = 0
    polls: int = 0
    upstream_id: UpstreamId | None = None
    params: Json = field(default_factory=dict)
    metadata: Json = field(default_factory=dict)
    notify: tuple[Json, ...] = field(default=(), repr=False)
    progress: float | None = None
    output: tuple[Json, ...] = ()
    error: TaskError | None = None
    warnings: tuple[str, ...] = ()
    usage: Usage | None = None
    cost: float | None = None
    resubmissions: int = 0
    settled_by: Source | None = None
    submitted_at: datetime | None = None
    settled_at: datetime | None = None
    due_at: datetime | None = None
    leased_until: datetime | None = None
    fence: int = 0
    hinted_at: datetime | None = None
    hinted_id: UpstreamId | None = None
    hinted_fact: Json | None = field(default=None, repr=False)
    polled_at: datetime | None = None
    empty_since: datetime | None = None
    status_word: str | None = None
    status_since: datetime | None = None
    resubmission_of: TaskId | None = None
    note: str | None = None
    erased_at: datetime | None = None

    @property
    def settled(self) -> bool:
        """Whether the task has reached completed, failed or canceled."""
        return self.status in SETTLED

    @property
    def final(self) -> bool:
        """Whether the provider reported a terminal status, which nothing overrules, or the task was erased."""
        return (self.settled and not self.guessed) or self.erased_at is not None

    @property
    def without_result(self) -> bool:
        """Whether the task was completed, and paid, without any result."""
        return self.status is Status.COMPLETED and not self.output and self.erased_at is None


@dataclass(frozen=True, kw_only=True)
class Step:
    """The effect of a fact: the task after it, and the events."""

    task: Task
    events: tuple[EventType, ...] = ()


REPORTED = frozenset({Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED, Status.CANCELED})
"""Statuses that the provider reports."""

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: REPORTED | {Status.SUBMITTING, Status.IN_DOUBT, Status.EXPIRED},
    Status.SUBMITTING: REPORTED | {Status.QUEUED, Status.IN_DOUBT, Status.EXPIRED},
    Status.IN_PROGRESS: REPORTED | {Status.EXPIRED},
    Status.IN_DOUBT: REPORTED | {Status.QUEUED, Status.EXPIRED},
    Status.EXPIRED: frozenset(SETTLED),
    Status.FAILED: REPORTED,  # only while the failure is our own guess
    Status.CANCELED: frozenset(),
    Status.COMPLETED: frozenset(),
}
"""The statuses that may follow each status. A final status has no successor, in spite of this table."""

EVENTS: Mapping[Status, EventType] = {
    Status.IN_DOUBT: EventType.IN_DOUBT,
    Status.COMPLETED: EventType.COMPLETED,
    Status.FAILED: EventType.FAILED,
    Status.CANCELED: EventType.CANCELED,
    Status.EXPIRED: EventType.EXPIRED,
}


def advance(task: Task, fact: Fact, now: datetime, *, source: Source | None) -> Step | None:
    """Return the task after `fact`, with the events; None if the fact changes nothing.

    `source` is None for our own conclusion. Progress never decreases. A guess never overrules a status that the
    provider reported, except that the task may expire. Nothing overrules a terminal status that the provider reported.
    A callback's id never replaces a known one: it may be an id of the upstream of the provider.
    """
    if not _admissible(task, fact):
        return None
    known, named = task.upstream_id, fact.upstream_id
    reported = [progress for progress in (task.progress, fact.progress) if progress is not None]
    moved = replace_fields(
        task,
        status=fact.status,
        guessed=fact.guessed,
        unconfirmed=fact.unconfirmed,
        upstream_id=known or named if source is Source.CALLBACK else named or known,
        progress=1.0 if fact.status is Status.COMPLETED else max(reported, default=None),
        output=fact.output or task.output,
        error=fact.error,
        usage=fact.usage or task.usage,
        warnings=task.warnings + tuple(text for text in fact.warnings if text not in task.warnings),
        settled_by=source if fact.settles else None,
        settled_at=now if fact.settles else None,
    )
    if moved is task:
        return None
    return Step(task=moved, events=_events(task, moved))


def _admissible(task: Task, fact: Fact) -> bool:
    """Return whether `fact` may change the task at all."""
    if task.final or fact.status not in TRANSITIONS[task.status]:
        return False
    return not fact.guessed or _guessable(task, fact)


def _guessable(task: Task, fact: Fact) -> bool:
    """Return whether our own conclusion is allowed: the only end is a failure, while the provider reports nothing."""
    if not fact.settles:
        return not task.settled
    reported = task.status is Status.IN_PROGRESS and not task.guessed
    return fact.status is Status.FAILED and not reported and not task.settled


def _events(before: Task, after: Task) -> tuple[EventType, ...]:
    event = EVENTS.get(after.status)
    accepted = before.upstream_id is None and after.upstream_id is not None
    events = [EventType.SUBMITTED] if accepted else []
    if event and (before.status is not after.status or before.guessed is not after.guessed):
        events.append(event)
    if after.status is Status.IN_PROGRESS and not accepted and before.progress != after.progress:
        events.append(EventType.PROGRESSED)
    return tuple(events)
