"""A model of a store in plain Python, without transactions, SQL or code of the service."""

from dataclasses import dataclass, field
from datetime import datetime

PROVIDER_STATUSES = frozenset({"in_progress", "completed", "failed", "canceled"})
"""Statuses that a provider may report."""

ENDS = frozenset({"completed", "failed", "canceled"})
ENDS_WITHOUT_RESULT = frozenset({"failed", "canceled"})
STATUSES_WITH_EVENT = ENDS | {"in_doubt", "expired"}
"""Statuses that have an event."""

FOLLOWS = {
    "queued": PROVIDER_STATUSES | {"submitting", "in_doubt", "expired"},
    "submitting": PROVIDER_STATUSES | {"queued", "in_doubt", "expired"},
    "in_progress": PROVIDER_STATUSES | {"expired"},
    "in_doubt": PROVIDER_STATUSES | {"queued", "expired"},
    "expired": ENDS,
    "failed": PROVIDER_STATUSES,
    "canceled": frozenset[str](),
    "completed": frozenset[str](),
}


@dataclass(kw_only=True)
class TaskModel:
    """One task; `events` are its expected events, without progress.

    `queued_until` is when a queued task may be submitted. `stored` is True if its result is stored.
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
        """Whether the task has ended by the provider's own report."""
        return self.status in ENDS and not self.guessed

    def leased(self, now: datetime) -> bool:
        """Whether the lease is valid at `now`."""
        return self.lease is not None and self.lease > now

    def claim(self, until: datetime) -> None:
        """Lease the task."""
        self.fence += 1
        self.lease = until

    def release(self, fence: int | None) -> None:
        """End the lease, if it is that of `fence`."""
        if fence == self.fence:
            self.lease = None

    def apply(self, status: str, *, upstream_id: str | None = None, guessed: bool = False, reply: bool = False) -> None:
        """Apply a fact; `reply` is True for the reply to a submission."""
        if not self._takes(status, guessed=guessed):
            if reply and upstream_id and not self.upstream_id:
                self.upstream_id = upstream_id
            return
        if upstream_id and not self.upstream_id:
            self.events.append("task.submitted")
        self.upstream_id = upstream_id or self.upstream_id
        if status in STATUSES_WITH_EVENT and (status, guessed) != (self.status, self.guessed):
            self.events.append(f"task.{status}")
        self.status, self.guessed = status, guessed

    def _takes(self, status: str, *, guessed: bool) -> bool:
        if self.final or status not in FOLLOWS[self.status]:
            return False
        if not guessed:
            return True
        if status in ENDS:
            in_progress = self.status == "in_progress" and not self.guessed
            return status == "failed" and not in_progress and self.status not in ENDS
        return self.status not in ENDS

    def hint(self, *, ended: bool, upstream_id: str | None = None) -> None:
        """Apply a callback that is to be confirmed by a poll."""
        if self.status == "queued":
            self.apply("in_doubt", guessed=True)
        if self.final:
            return
        self.hinted_id = upstream_id or self.hinted_id
        self.hinted = self.hinted or ended or not (self.upstream_id or self.hinted_id)

    def requeue(self, due: datetime) -> None:
        """Queue the task again, unless it has an unread callback."""
        if self.hinted or self.hinted_id:
            self.apply("in_doubt", guessed=True)
        elif self._takes("queued", guessed=True):
            self.apply("queued", guessed=True)
            self.queued_until = due

    def expire(self, now: datetime) -> None:
        """Expire the task if its deadline has passed."""
        if now >= self.deadline:
            self.apply("expired", guessed=True)


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
        """Whether the delivery has not ended."""
        return self.status == "pending"

    def leased(self, now: datetime) -> bool:
        """Whether the lease is valid at `now`."""
        return self.lease is not None and self.lease > now

    def held_by(self, fence: int) -> bool:
        """Whether a holder with `fence` holds the lease."""
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
    sent: set[tuple[str, int]] = field(default_factory=set)
    """Submissions that may have been sent: each is billed once at most, and another one needs explicit approval."""

    def holder(self, upstream_id: str | None) -> str | None:
        """Return the task that has the provider id."""
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
        """Finish an attempt: later deliveries of the lane are due with the retry, or now."""
        one.attempts, one.attempted, one.lease = one.attempts + 1, one.attempted + 1, None
        one.status = {"retry": "pending"}.get(outcome, outcome)
        one.due = due if outcome == "retry" else None
        for other in self.deliveries.values():
            if other.lane == one.lane and other.pending and other.seq > one.seq and other.lease is None:
                other.due = due if outcome == "retry" else at
