"""What the HTTP edge asks of the use-cases, as small Protocols; the real ones fit structurally."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from service.domain.ports.tasks import DeliveryView
from service.domain.task import Task, TaskId
from service.domain.tokens import TokenClaims
from service.tasks.new_task import NewTask


class Desk(Protocol):
    """Where clients ask for tasks and decide about them."""

    async def accept(self, new: NewTask) -> tuple[Task, bool]:
        """Store a task durably; return it, and whether it was created now (False: its idempotency key was known).

        Raises InvalidParams, Conflict (a known idempotency key with another body) or StoreUnavailable.
        """

    async def cancel(self, task_id: TaskId) -> Task:
        """Cancel a task; raises Conflict with the reason, or UpstreamError."""

    async def resubmit(self, task_id: TaskId) -> Task:
        """Make a new task of an in-doubt or failed one and return the new one; raises Conflict."""


class Receiver(Protocol):
    """The inbound door for callbacks."""

    def verify_token(self, token: str) -> TokenClaims:
        """Return what a token says; raises BadToken unless it is ours and in date; changes nothing."""

    async def receive(self, claim: TokenClaims, headers: Mapping[str, str], body: bytes) -> bool:
        """Verify and record a callback durably; `headers` have lower-case names.

        Return whether the log has told of it already.

        Raises BadToken, BadSignature, UnreadableBody or StoreUnavailable.
        """


class Replayer(Protocol):
    """The deliveries that can be made again."""

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> list[str]:
        """Make dead or delivered deliveries due again at `now`; return their ids.

        Each gets a new message id, so that no receiver takes it for a repeat, and starts its schedule again.
        """


class Rounds(Protocol):
    """One full round of everything that is due."""

    async def reconcile_once(self, *, begin_for: timedelta | None = None) -> Mapping[str, int]:
        """Submit, poll and dispatch what is due, beginning with no more after `begin_for`; return how many of each."""


class DeliveryLookup(Protocol):
    """Finds one delivery."""

    async def delivery(self, delivery_id: str) -> DeliveryView | None:
        """Return one delivery, None for an unknown one."""
