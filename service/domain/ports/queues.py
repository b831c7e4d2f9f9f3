"""The queues of due rows, which are claimed with a lease and a fence."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from service.domain.credit_pause import CreditPause
from service.domain.delivery_errors import with_reason_of_end
from service.domain.fair_share import FairShare
from service.domain.ports.circuits import NO_BLOCKS, Blocks, DestinationHealth
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.submission_limits import LimitName, Limits, LimitUsage
from service.domain.task import Task, TaskId


class SubmissionQueue(Protocol):
    """Queued tasks that are due to be submitted."""

    async def claim_submissions(self, *, now: datetime, until: datetime, limit: int, limits: Limits) -> list[Task]:
        """Move due queued tasks to `submitting`, durably, and return them: clients in turn, the oldest of each first.

        Each gets the next submission number, `submitted_at = now`, a lease `until` and a higher fence.
        """

    async def limit_reached(self, *, now: datetime, limits: Limits) -> LimitName | None:
        """Return the limit that the next due queued task waits for, None if there is none."""

    async def renew(self, claims: Mapping[TaskId, int], *, until: datetime) -> set[TaskId]:
        """Extend leases (task to fence); return the tasks whose leases are still held."""

    async def sweep(self, *, now: datetime) -> list[Task]:
        """Return `submitting` tasks whose lease has expired: abandoned, in doubt."""


class CreditPauses(Protocol):
    """The pause of all submissions while the provider's account has no credit. Claims respect it."""

    async def current(self) -> CreditPause | None:
        """Return the pause, None while there is none."""

    async def refused(self, *, submitted_at: datetime, now: datetime) -> CreditPause:
        """Begin or lengthen the pause after the refusal of a submission that began at `submitted_at`; return it."""

    async def accepted(self, *, submitted_at: datetime) -> bool:
        """End the pause: a submission that began after the last refusal was accepted. Return whether there was one."""


class LimitUsageReader(Protocol):
    """How much of the limits is used."""

    async def limit_usage(self, *, now: datetime, limits: Limits, buckets: Collection[str]) -> LimitUsage:
        """Return what `limits` leave at `now`, with the prices of `buckets`."""


class PollQueue(Protocol):
    """Tasks that are due for a poll."""

    async def claim_polls(self, *, now: datetime, until: datetime, limit: int, overdue: bool = True) -> list[Task]:
        """Lease due tasks of any status except queued and submitting; if `overdue`, queued ones past their deadline."""

    async def renew(self, claims: Mapping[TaskId, int], *, until: datetime) -> set[TaskId]:
        """Extend leases (task to fence); return the tasks whose leases are still held."""

    async def release(self, claims: Mapping[TaskId, int], *, due_at: datetime) -> None:
        """Release leases whose fence is current; their polls are due again at `due_at`."""


class WatchedTasks(Protocol):
    """Tasks whose progress somebody watches, in any process."""

    async def watch(self, ids: Collection[TaskId], *, until: datetime) -> None:
        """Watch these tasks until that time, or longer if that is stored."""

    async def claim(self, *, now: datetime, until: datetime, limit: int, every: timedelta) -> list[Task]:
        """Lease watched tasks in progress that were not polled for `every` and are not due; the longest ago first."""

    async def prune(self, *, now: datetime) -> int:
        """Delete what is stored about tasks that nobody watches any more, or that have ended; return how many."""


class ClockJumpRepair(Protocol):
    """Rows that wait for their time."""

    async def repair(self, *, now: datetime, until: datetime) -> int:
        """Make rows that are due later due at `now`, and end leases at `until`; return how many rows changed."""


Outcome = Literal["delivered", "retry", "dead"]
"""The outcome of an attempt for its delivery."""

ResponsibleParty = Literal["destination", "ours"]
"""The party responsible for a dead letter: the destination (it refused, failed or did not answer) or this service."""


@dataclass(frozen=True, kw_only=True)
class ReceiverAnswer:
    """What the receiver of an attempt answered: the HTTP status, and the beginning of the body as text."""

    status: int
    body: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """The result of an attempt; a `retry` has `due_at`, a `dead` letter has `fault` and the reason in `end_reason`.

    `about_destination`: the destination was tried, and succeeded or failed. `health` is what follows for its circuit.
    `endpoint_updated_at` is the last change of its endpoint that the attempt has read.
    """

    delivery_id: str
    fence: int
    attempt: int
    started_at: datetime
    finished_at: datetime
    outcome: Outcome
    error: str | None = None
    fault: ResponsibleParty | None = None
    due_at: datetime | None = None
    end_reason: str | None = None
    answer: ReceiverAnswer | None = None
    about_destination: bool = False
    health: DestinationHealth | None = None
    endpoint_updated_at: datetime | None = None

    @property
    def last_error(self) -> str | None:
        """Return the error of the delivery: for a dead letter also why it is not tried again."""
        return with_reason_of_end(self.error, self.end_reason) if self.error and self.end_reason else self.error

    @property
    def due_now(self) -> bool:
        """Whether the next attempt is due at once."""
        return self.due_at is not None and self.due_at <= self.finished_at


@dataclass(frozen=True, kw_only=True)
class HandlerCapacity:
    """How many deliveries of one handler may be claimed; `names` are its current and its former ones.

    `held` counts the slots that each client holds by deliveries with a target (see `FairShare`).
    With `past_served`, the search continues past deliveries of clients that hold their share. `rate` is how many
    deliveries may start in a second, over all processes; None for no limit. `destination_rate` is the same for each
    host that a client's addresses name.
    """

    names: tuple[str, ...]
    slots: int
    held: Mapping[str, int] = field(default_factory=dict)
    past_served: bool = True
    rate: float | None = None
    destination_rate: float | None = None

    def shares(self) -> FairShare:
        """Return the fair shares of the free slots."""
        return FairShare(free=self.slots, held=Counter(self.held))


class DeliveryQueue(Protocol):
    """Due deliveries, first in first out within a lane."""

    async def claim(
        self, capacities: Sequence[HandlerCapacity], *, now: datetime, until: datetime, blocks: Blocks = NO_BLOCKS
    ) -> list[DeliveryClaim]:
        """Lease due deliveries while capacity is free: only heads of lanes, and no client above its share.

        Those that a circuit `blocks` wait for it instead, uncounted.

        A lease counts an attempt until its result is stored: with an expired lease it is claimed as `abandoned`.
        """

    async def finish(self, results: Sequence[AttemptResult]) -> set[str]:
        """Store the results of attempts; return the deliveries whose fence was current."""

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Extend leases; return the deliveries whose leases are still held."""

    async def release(self, claims: Mapping[str, int]) -> None:
        """Release leases whose fence is current, without counting an attempt; the deliveries are due at once."""

    async def hold(self, delivery_id: str, fence: int, *, now: datetime) -> None:
        """Release the lease of a delivery to a paused endpoint, uncounted: it is due again when it is resumed."""

    async def pending_handlers(self) -> list[str]:
        """Return the names of handlers with pending deliveries, loaded or not, in order."""
