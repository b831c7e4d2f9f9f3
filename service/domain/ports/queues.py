"""The queues: rows that are due, claimed with a lease and a fence."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from service.domain.fair_share import FairShare
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import Task, TaskId


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be claimed for submission: unfinished tasks at the upstream, and US dollars a UTC day."""

    max_in_flight: int | None = None
    budget: float | None = None


class SubmissionQueue(Protocol):
    """Queued tasks that are due to be submitted."""

    async def claim_submissions(self, *, now: datetime, until: datetime, limit: int, limits: Limits) -> list[Task]:
        """Move due queued tasks to `submitting`, durably, and return them.

        Each gets the next submission number, `submitted_at = now`, a lease `until` and a higher fence.
        """

    async def held_back(self, *, now: datetime, limits: Limits) -> str | None:
        """Return the limit that due queued tasks wait for: `max_in_flight`, `budget`, or None."""

    async def note_waiting(self, note: str, *, now: datetime) -> None:
        """Note on every due queued task why it waits; a claim takes the note off."""

    async def renew(self, claims: Mapping[TaskId, int], *, until: datetime) -> set[TaskId]:
        """Prolong leases (by fence); return those that are still held."""

    async def sweep(self, *, now: datetime) -> list[Task]:
        """Return tasks that are `submitting` with a lease that is past: abandoned, in doubt."""


class PollQueue(Protocol):
    """Tasks about which the upstream is due to be asked."""

    async def claim_polls(self, *, now: datetime, until: datetime, limit: int) -> list[Task]:
        """Lease due tasks of any status but queued and submitting, and queued ones that are past their deadline."""

    async def renew(self, claims: Mapping[TaskId, int], *, until: datetime) -> set[TaskId]:
        """Prolong leases (by fence); return those that are still held."""

    async def release(self, claims: Mapping[TaskId, int], *, due_at: datetime) -> None:
        """Give back leases whose fence still fits; polls are due again at `due_at`."""


class ClockJumpRepair(Protocol):
    """Everything that waits for its time."""

    async def repair(self, *, now: datetime, until: datetime) -> int:
        """Make due at `now` what is due later, and let no lease live past `until`; return how many rows that were."""


Outcome = Literal["delivered", "retry", "dead"]
"""What an attempt's end means for its delivery."""

ResponsibleParty = Literal["destination", "ours"]
"""Whose fault a dead letter is: the other end refused, failed or kept silent, or the fault is ours."""


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """How an attempt ended; a `retry` comes with `due_at`, a `dead` letter with `fault`."""

    delivery_id: str
    fence: int
    attempt: int
    started_at: datetime
    finished_at: datetime
    outcome: Outcome
    error: str | None = None
    fault: ResponsibleParty | None = None
    due_at: datetime | None = None

    @property
    def due_now(self) -> bool:
        """Whether another attempt is due at once."""
        return self.due_at is not None and self.due_at <= self.finished_at


@dataclass(frozen=True, kw_only=True)
class HandlerCapacity:
    """How many deliveries of one handler may be claimed; `names` are its own and its former ones.

    `held` counts the slots that each client holds by deliveries with a target (see `FairShare`).
    `past_served` allows to look for what others have waiting behind all that clients with their share have.
    """

    names: tuple[str, ...]
    slots: int
    held: Mapping[str, int] = field(default_factory=dict)
    past_served: bool = True

    def shares(self) -> FairShare:
        """Return what there is to share out."""
        return FairShare(free=self.slots, held=Counter(self.held))


class DeliveryQueue(Protocol):
    """Deliveries that are due, first in first out within a lane."""

    async def claim(self, rooms: Sequence[HandlerCapacity], *, now: datetime, until: datetime) -> list[DeliveryClaim]:
        """Lease due deliveries as far as there is room, heads of their lanes only, no client above its share.

        The lease is what counts an attempt until its end is stored: one that ran out is claimed as `abandoned`.
        """

    async def finish(self, results: Sequence[AttemptResult]) -> set[str]:
        """Store attempts and what became of their deliveries; return the ids whose fence still fitted."""

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Prolong leases; return those that are still held."""

    async def release(self, claims: Mapping[str, int]) -> None:
        """Give back leases whose fence still fits, without counting an attempt; due at once."""

    async def pending_handlers(self) -> list[str]:
        """Return the names of the handlers that have pending deliveries, loaded or not, in their order."""
