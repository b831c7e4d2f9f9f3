"""What there is to record about one task, and the result of recording it."""

from dataclasses import dataclass, field
from datetime import datetime

from service.domain.artifact import Artifact
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import EventType, Fact, Json, Source, Status, Task, TaskId, UpstreamId

RESUBMITTED_WARNING = (
    "the reply to a submission was lost, and the task was submitted again: the upstream may bill it twice"
)
"""Marks a task that was submitted again in doubt: the operator's yes is to a second bill, not to a third.

Stored among the task's warnings, and compared with them: reworded, a task under way could be billed a third time.
"""

NOTHING_MADE = frozenset({Status.FAILED, Status.CANCELED})


@dataclass(frozen=True, kw_only=True)
class Hint:
    """A callback's word, to be confirmed by a GET: the id that it named, and its fact where our token came with it.

    `ended` says whether it told of an end; otherwise the task lives, or nobody could read what it said. `nothing_made`
    says that the end was a failure or a cancel.
    """

    upstream_id: UpstreamId | None = None
    fact: Json | None = field(default=None, repr=False)
    ended: bool = True
    nothing_made: bool = False


@dataclass(frozen=True, kw_only=True)
class TaskUpdate:
    """Something to record about one task.

    `fence` is that of the lease in hand, which is given back if it is still ours. `ours_only` entries are our own
    conclusions from that lease, and do nothing once it was lost; nor do `only_if` entries for another status.
    `submission` is the one that the fact is about. `due_at` overrules the plan. `named` is the id that a callback's
    body named, which need not be one that the upstream's GET knows. `tried` counts a sending that never left.
    `warning` is kept with the task if the entry advances it, or brings nothing else; an entry whose warning is there
    already does nothing. `poll` is for the history. `expires` lets a task that is past its deadline and not at its end
    expire in the same commit: between two, its step would be due again, and be taken up for ever.
    """

    task_id: TaskId
    fact: Fact | None = None
    source: Source | None = None
    fence: int | None = None
    ours_only: bool = False
    only_if: Status | None = None
    submission: int | None = None
    due_at: datetime | None = None
    tried: bool = False
    note: str | None = None
    warning: str | None = None
    inbox: InboxEntry | None = field(default=None, repr=False)
    named: UpstreamId | None = None
    hint: Hint | None = None
    artifact: Artifact | None = None
    poll: str | None = None
    expires: bool = False


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What became of an entry: the task after it (None when we do not know such a task), and the inbox's word."""

    task: Task | None
    inbox: str | None = None
    events: tuple[EventType, ...] = ()
