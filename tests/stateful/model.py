"""What a store must hold, in plain Python: no transaction, no SQL, none of the code that it is compared with."""

from dataclasses import dataclass, field
from datetime import datetime

WORDS = frozenset({"in_progress", "completed", "failed", "canceled"})
"""What an upstream may say."""

ENDS = frozenset({"completed", "failed", "canceled"})
NOTHING_MADE = frozenset({"failed", "canceled"})
NAMED = ENDS | {"in_doubt", "expired"}
"""Statuses that an event tells of."""

FOLLOWS = {
    "queued": WORDS | {"submitting", "in_doubt", "expired"},
    "submitting": WORDS | {"queued", "in_doubt", "expired"},
    "in_progress": WORDS | {"expired"},
    "in_doubt": WORDS | {"queued", "expired"},
    "expired": ENDS,
    "failed": WORDS,
    "canceled": frozenset[str](),
    "completed": frozenset[str](),
}


@dataclass(kw_only=True)
class TaskModel:
    """One task. `events` are the names of those that must have happened, without progress.

    `queued_until` is when it may be submitted while it is queued; `stored` says that its result is kept.
    """

    id: str
    deadline: datetime
    notifies: bool = False
    status: str = "queued"
    guessed: bool = False
    submission: int = 0
    fence: int = 0
    lease: datetime | None = None
    queued_until: datetime
    upstream_id: str | None = None
    hinted: bool = False
    hinted_id: str | None = None
    stored: bool = False
    events: list[str] = field(default_factory=list)

    @property
    def final(self) -> bool:
        """Whether the upstream's own end stands."""
        return self.status in ENDS and not self.guessed

    def leased(self, now: datetime) -> bool:
        """Whether somebody holds it."""
        return self.lease is not None and self.lease > now

    def claim(self, until: datetime) -> None:
        """Put it into somebody's hands."""
        self.fence += 1
        self.lease = until

    def give_back(self, fence: int | None) -> None:
        """End the lease, if it is that of `fence`."""
        if fence == self.fence:
            self.lease = None

    def hear(self, status: str, *, upstream_id: str | None = None, guessed: bool = False, reply: bool = False) -> None:
        """Take a fact; `reply` when it is the answer to a submission."""
        if not self._takes(status, guessed=guessed):
            if reply and upstream_id and not self.upstream_id:
                self.upstream_id = upstream_id
            return
        if upstream_id and not self.upstream_id:
            self.events.append("task.submitted")
        self.upstream_id = upstream_id or self.upstream_id
        if status in NAMED and (status, guessed) != (self.status, self.guessed):
            self.events.append(f"task.{status}")
        self.status, self.guessed = status, guessed

    def _takes(self, status: str, *, guessed: bool) -> bool:
        if self.final or status not in FOLLOWS[self.status]:
            return False
        if not guessed:
            return True
        if status in ENDS:
            told = self.status == "in_progress" and not self.guessed
            return status == "failed" and not told and self.status not in ENDS
        return self.status not in ENDS

    def hint(self, *, ended: bool, upstream_id: str | None = None) -> None:
        """Take a callback's word that is to be confirmed."""
        if self.status == "queued":
            self.hear("in_doubt", guessed=True)
        if self.final:
            return
        self.hinted_id = upstream_id or self.hinted_id
        self.hinted = self.hinted or ended or not (self.upstream_id or self.hinted_id)

    def never_left(self, due: datetime) -> None:
        """Queue it again, unless a callback has spoken of it."""
        if self.hinted or self.hinted_id:
            self.hear("in_doubt", guessed=True)
        elif self._takes("queued", guessed=True):
            self.hear("queued", guessed=True)
            self.queued_until = due

    def expire(self, now: datetime) -> None:
        """End the wait when the deadline has passed."""
        if now >= self.deadline:
            self.hear("expired", guessed=True)


@dataclass(kw_only=True)
class DeliveryModel:
    """One delivery, in its lane."""

    id: str
    handler: str
    lane: str
    seq: int
    due: datetime | None
    status: str = "pending"
    attempts: int = 0
    attempted: int = 0
    fence: int = 0
    lease: datetime | None = None

    @property
    def pending(self) -> bool:
        """Whether it is still to be delivered."""
        return self.status == "pending"

    def leased(self, now: datetime) -> bool:
        """Whether somebody holds it."""
        return self.lease is not None and self.lease > now

    def held_by(self, fence: int) -> bool:
        """Whether a holder with `fence` may still speak for it."""
        return self.pending and self.lease is not None and self.fence == fence


@dataclass(kw_only=True)
class Model:
    """Everything that a store must hold."""

    tasks: dict[str, TaskModel] = field(default_factory=dict)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    resubmitted: dict[str, str] = field(default_factory=dict)
    deliveries: dict[str, DeliveryModel] = field(default_factory=dict)
    received: list[tuple[str, int, bytes]] = field(default_factory=list)
    with_unread_callbacks: set[str] = field(default_factory=set)
    claimed: set[tuple[str, int]] = field(default_factory=set)
    left: set[tuple[str, int]] = field(default_factory=set)
    """Submissions that may have left: each is one bill at most, and no other follows it without a person's word."""

    def holder(self, upstream_id: str | None) -> str | None:
        """Return which task has that id."""
        return next((one.id for one in self.tasks.values() if upstream_id and one.upstream_id == upstream_id), None)

    def due_heads(self, handler: str, now: datetime) -> set[str]:
        """Return the deliveries of `handler` that may be claimed."""
        return {one.id for one in self.deliveries.values() if one.handler == handler and self._claimable(one, now)}

    def _claimable(self, one: DeliveryModel, now: datetime) -> bool:
        lane = [other for other in self.deliveries.values() if other.lane == one.lane and other.pending]
        first = all(other.seq >= one.seq for other in lane)
        due = one.due is not None and one.due <= now
        return one.pending and due and first and not any(other.leased(now) for other in lane)

    def finish(self, one: DeliveryModel, outcome: str, at: datetime, due: datetime | None) -> None:
        """End an attempt: those behind in the lane are due with it, or after it."""
        one.attempts, one.attempted, one.lease = one.attempts + 1, one.attempted + 1, None
        one.status = {"retry": "pending"}.get(outcome, outcome)
        one.due = due if outcome == "retry" else None
        for other in self.deliveries.values():
            if other.lane == one.lane and other.pending and other.seq > one.seq and other.lease is None:
                other.due = due if outcome == "retry" else at
