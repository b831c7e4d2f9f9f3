"""A task, the facts that are learned about it, and the one table that says which fact moves it where.

queued ──▶ submitting ──▶ in_progress ──▶ completed | failed | canceled      (settled: the upstream's own word)
  ▲            │  │            │
  └─ never ────┘  └─▶ in_doubt ┴──▶ expired                                   (ours: any later word overrules them)
     left

A queued task is in doubt, too, when a callback speaks of it: then it did leave.
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
"""A JSON object: what a column or a body holds."""


class Status(StrEnum):
    """Where a task is in its life."""

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
    """By which road a fact came."""

    SUBMIT = "submit"
    CALLBACK = "callback"
    POLL = "poll"


class EventType(StrEnum):
    """What can happen to a task, in the past tense."""

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
    """Why a task failed: the upstream's own code and words, or ours (`submission_unknown`)."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a task cost: US dollars as the upstream wrote them, and its discount."""

    cost: str | None = None
    discount: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What a reply, a callback or a poll says about a task, verified and in our terms.

    `guessed` marks our own conclusion, which any word of the upstream overrules. `correlation` is the payload token
    that the body carried. `unconfirmed` marks a callback's body that no GET could confirm.
    """

    status: Status
    upstream_id: UpstreamId | None = None
    progress: float | None = None
    output: tuple[Json, ...] = ()
    error: TaskError | None = None
    usage: Usage | None = None
    guessed: bool = False
    unconfirmed: bool = False
    correlation: str | None = field(default=None, repr=False)

    @property
    def settles(self) -> bool:
        """Whether the fact is an end: completed, failed or canceled."""
        return self.status in SETTLED


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that we believe about one task. Times are aware and in UTC.

    `submission` counts the submissions, from 0 (none yet); `tries` counts sendings of the current one that surely never
    left. `due_at` is when the next step (submit or poll) is due, None when nothing is. `fence` grows with each claim;
    `leased_until` is the end of the current one. `hinted_at` is when a callback first said that the task had ended (or
    that it lives, without naming it), and `hinted_id` the upstream id that it named; `hinted_fact` is its body's fact
    where the body carried our payload token. `polled_at` is when the upstream last said "in progress". `guessed` says
    that the status is our own conclusion.
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
    resubmission_of: TaskId | None = None
    note: str | None = None

    @property
    def settled(self) -> bool:
        """Whether the task has reached completed, failed or canceled."""
        return self.status in SETTLED

    @property
    def final(self) -> bool:
        """Whether the upstream's own terminal word stands, so that nothing overrules it."""
        return self.settled and not self.guessed


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a fact did: the task as it is now, and what happened."""

    task: Task
    events: tuple[EventType, ...] = ()


UPSTREAM_WORDS = frozenset({Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED, Status.CANCELED})

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: UPSTREAM_WORDS | {Status.SUBMITTING, Status.IN_DOUBT, Status.EXPIRED},
    Status.SUBMITTING: UPSTREAM_WORDS | {Status.QUEUED, Status.IN_DOUBT, Status.EXPIRED},
    Status.IN_PROGRESS: UPSTREAM_WORDS | {Status.EXPIRED},
    Status.IN_DOUBT: UPSTREAM_WORDS | {Status.QUEUED, Status.EXPIRED},
    Status.EXPIRED: frozenset(SETTLED),
    Status.FAILED: UPSTREAM_WORDS,  # only while the failure is our own guess
    Status.CANCELED: frozenset(),
    Status.COMPLETED: frozenset(),
}
"""Which status may follow which. A final status has no successor, whatever stands here."""

EVENTS: Mapping[Status, EventType] = {
    Status.IN_DOUBT: EventType.IN_DOUBT,
    Status.COMPLETED: EventType.COMPLETED,
    Status.FAILED: EventType.FAILED,
    Status.CANCELED: EventType.CANCELED,
    Status.EXPIRED: EventType.EXPIRED,
}


def advance(task: Task, fact: Fact, now: datetime, *, source: Source | None) -> Step | None:
    """Return the task after `fact`, with what happened; None when the fact changes nothing.

    `source` is the road by which the fact came, None for our own conclusion. Progress never goes back, a guess never
    overrules the upstream's word (it may only say that time is up), and nothing overrules the upstream's own terminal
    word. A callback's id never replaces one that we know: it may be that of the provider behind the provider.
    """
    if not _admissible(task, fact):
        return None
    moved = replace_fields(
        task,
        status=fact.status,
        guessed=fact.guessed,
        unconfirmed=fact.unconfirmed,
        upstream_id=_known_id(task, fact, source),
        progress=1.0 if fact.status is Status.COMPLETED else _higher(task.progress, fact.progress),
        output=fact.output or task.output,
        error=fact.error,
        usage=fact.usage or task.usage,
        settled_by=source if fact.settles else None,
        settled_at=now if fact.settles else None,
    )
    if moved is task:
        return None
    return Step(task=moved, events=_happened(task, moved))


def _admissible(task: Task, fact: Fact) -> bool:
    if task.final or fact.status not in TRANSITIONS[task.status]:
        return False
    return not fact.guessed or _guessable(task, fact)


def _guessable(task: Task, fact: Fact) -> bool:
    """Return whether our conclusion may stand: of all ends only a failure, and only where the upstream is silent."""
    if not fact.settles:
        return not task.settled
    told = task.status is Status.IN_PROGRESS and not task.guessed
    return fact.status is Status.FAILED and not told and not task.settled


def _known_id(task: Task, fact: Fact, source: Source | None) -> UpstreamId | None:
    if source is Source.CALLBACK:
        return task.upstream_id or fact.upstream_id
    return fact.upstream_id or task.upstream_id


def _higher(old: float | None, new: float | None) -> float | None:
    return new if old is None else old if new is None else max(old, new)


def _happened(before: Task, after: Task) -> tuple[EventType, ...]:
    named = EVENTS.get(after.status)
    accepted = before.upstream_id is None and after.upstream_id is not None
    happened = [EventType.SUBMITTED] if accepted else []
    if named and (before.status is not after.status or before.guessed is not after.guessed):
        happened.append(named)
    if after.status is Status.IN_PROGRESS and not accepted and before.progress != after.progress:
        happened.append(EventType.PROGRESSED)
    return tuple(happened)
