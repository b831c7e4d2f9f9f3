"""Storage of endpoints, and of what was missed by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from service.domain.endpoint import Endpoint
from service.domain.ports.queues import ReceiverAnswer
from service.domain.ports.unit_of_work import DeliveryRow
from service.domain.task import TaskId


@dataclass(frozen=True, kw_only=True)
class MissedEvent:
    """An event that an endpoint has not got: its dead letter has `dead_id`, None if no delivery was ever made."""

    seq: int
    id: str
    task_id: TaskId
    dead_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointTestResult:
    """What became of a test event: its `error`, None if it was delivered, the answer if there was one, and its id."""

    message_id: str
    seconds: float
    error: str | None = None
    answer: ReceiverAnswer | None = None


class Endpoints(Protocol):
    """The endpoints of clients."""

    async def add(self, endpoint: Endpoint, *, limit: int) -> None:
        """Store a new endpoint; raises Conflict if its client has `limit` of them."""

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """Return one endpoint, None if it is unknown."""

    async def listed(self, *, client: str | None, limit: int, cursor: str | None) -> list[Endpoint]:
        """Return endpoints, newest first, after the one with the id `cursor`; None for all clients."""

    async def change(self, endpoint_id: str, values: Mapping[str, Any], *, sealed: str | None = None) -> bool:
        """Change columns of an endpoint; return whether it exists, and still has the secrets `sealed` if given."""

    async def remove(self, endpoint_id: str, *, now: datetime) -> bool:
        """Delete an endpoint and drop its pending deliveries; return whether it existed."""

    async def wake(self, *, now: datetime) -> int:
        """Make held deliveries due whose endpoint is not paused; return how many."""

    async def to_seal_again(self, *, key_id: str, now: datetime, limit: int) -> list[Endpoint]:
        """Return endpoints that another key sealed, or that have secrets that no longer sign."""

    async def missed(
        self, endpoint: Endpoint, *, since: datetime, until: datetime | None, after: int | None, limit: int
    ) -> tuple[list[MissedEvent], int | None]:
        """Return events of a time that the endpoint wants and has not got, oldest first, and where to continue.

        `after` is the number of the last event that was read before; at most `limit` events are read.
        """

    async def add_missed(self, rows: Sequence[DeliveryRow]) -> int:
        """Store deliveries of old events, without those that exist; return how many are new."""


class EndpointReader(Protocol):
    """Reads one endpoint for an attempt."""

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """Return one endpoint, None if it is unknown."""
