"""The use cases that the API calls, as Protocols; the implementations fit structurally."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

from service.domain.artifact import StoredContent
from service.domain.endpoint import Endpoint
from service.domain.ports.deliveries import DeliveryView
from service.domain.ports.endpoints import EndpointTestResult
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Json, Task, TaskId
from service.domain.tokens import TokenClaims
from service.tasks.new_task import NO_OTHER_CHANGES, NewTask, OtherChanges

Stopped = Callable[[], Awaitable[object]]
"""Returns once the process shuts down."""


class TaskService(Protocol):
    """Accepts, cancels and resubmits tasks."""

    async def accept(self, new: NewTask) -> tuple[Task, bool]:
        """Store a task durably; return it, and whether it is new (False for a known idempotency key).

        Raises InvalidParams, Conflict (a known idempotency key with another body) or StoreUnavailable.
        """

    async def cancel(self, task_id: TaskId, *, only_if_queued: bool = False) -> Task:
        """Cancel a task, with `only_if_queued` no running one; raises Conflict with the reason, or UpstreamError."""

    async def resubmit(self, task_id: TaskId, *, first: bool = False) -> Task:
        """Create a new task from an in-doubt or failed one and return it, or the one of an earlier resubmission.

        Raises Conflict, with `first` also for a task that was resubmitted before.
        """

    async def resubmit_changed(
        self,
        task_id: TaskId,
        changes: Json,
        *,
        admin: bool,
        idempotency: IdempotencyKey | None,
        others: OtherChanges = NO_OTHER_CHANGES,
    ) -> tuple[Task, bool]:
        """Create a new task from an ended one, with changed parameters; return it, and whether it is new.

        Raises InvalidParams or Conflict.
        """


class TaskErasure(Protocol):
    """Erases tasks."""

    async def erase(self, task_id: TaskId) -> Task:
        """Erase an ended task and return what stays.

        Raises NotFound, Conflict with the reason, or an error of the archive.
        """


class WaitingNotes(Protocol):
    """Says what queued tasks wait for."""

    async def noted(self, tasks: Sequence[Task]) -> list[Task]:
        """Return `tasks`, the queued ones with a note that says what they wait for."""


class Receiver(Protocol):
    """Receives callbacks."""

    def verify_token(self, segment: str) -> TokenClaims:
        """Return the claims of the token in the last segment of an address, without side effects.

        Raises BadToken unless it is genuine and not expired, or KeyMissing.
        """

    def note_refusal(self, reason: str, segment: str) -> None:
        """Leave a bounded trace of a refused callback to the address with the last segment `segment`."""

    @property
    def refused(self) -> Mapping[str, int]:
        """Return how many callbacks were refused, by reason."""

    async def poll_at_once(self, claims: TokenClaims) -> None:
        """Make the task of a callback due whose body could not be received; raises StoreUnavailable."""

    async def receive(self, claim: TokenClaims, headers: Mapping[str, str], body: bytes) -> bool:
        """Verify and record a callback durably; `headers` have lower-case names.

        Return whether the callback is already logged. Raises BadToken, BadSignature, UnreadableBody or
        StoreUnavailable.
        """


class SinglePassRunner(Protocol):
    """Runs one pass over everything that is due."""

    async def reconcile_once(self, *, start_within: timedelta | None = None) -> Mapping[str, int]:
        """Submit, poll and dispatch what is due, and start nothing after `start_within`; return how many of each."""


class StoredContents(Protocol):
    """Reads stored results; its methods raise ArchiveRefused and ArchiveUnavailable."""

    async def find(self, item: Json) -> StoredContent | None:
        """Return the stored content of an item of a task's output, None if there is none in the archive."""

    async def thumbnail(self, content: StoredContent) -> StoredContent:
        """Return the JPEG of a found content; raises Unreadable if none can be made."""

    async def signed_url(
        self, content: StoredContent, method: Literal["GET", "HEAD"], expires_in: timedelta
    ) -> str | None:
        """Return an address of the store itself that is valid for a time, None where it signs none."""


class Links(Protocol):
    """Creates and reads the tokens of signed links."""

    def token(self, task_id: TaskId, expires: datetime) -> str:
        """Return the token for the content of a task."""

    def read(self, token: str, now: datetime) -> tuple[TaskId, datetime]:
        """Return the task and the expiry of a token; raises BadToken or KeyMissing."""


class EndpointTester(Protocol):
    """Sends test events to endpoints."""

    async def send(self, endpoint: Endpoint) -> EndpointTestResult:
        """Send one marked event to `endpoint` now, signed and guarded as any delivery; return what became of it."""


class PendingHandlers(Protocol):
    """Names the handlers for which deliveries wait."""

    async def pending_handlers(self) -> list[str]:
        """Return the names of handlers with pending deliveries, loaded or not, in order."""


class DeliveryLookup(Protocol):
    """Reads one delivery."""

    async def delivery(self, delivery_id: str) -> DeliveryView | None:
        """Return one delivery, None for an unknown id."""
