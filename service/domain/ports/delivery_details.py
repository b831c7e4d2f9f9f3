"""What pages show of deliveries beside the lists of the API."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.domain.logged_event import LoggedEvent
from service.domain.task import Json, TaskId


@dataclass(frozen=True, kw_only=True)
class AttemptView:
    """One attempt: how it ended, and the HTTP status and first KiB of the answer where there was one."""

    number: int
    started_at: datetime
    finished_at: datetime
    outcome: str
    error: str | None
    answer_status: int | None
    answer_body: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DeliveryDetail:
    """A delivery's host, None where its target has none, its message id, and its last attempts, newest first."""

    host: str | None
    message_id: str
    attempted: int
    attempts: tuple[AttemptView, ...]


@dataclass(frozen=True, kw_only=True)
class DeliveryContent:
    """What a delivery contains: its event, and its target as it is stored, with its secrets sealed."""

    handler: str
    message_id: str
    target: Json = field(repr=False)
    endpoint_id: str | None
    event: LoggedEvent = field(repr=False)


class DeliveryDetails(Protocol):
    """Reads details of deliveries."""

    async def details(self, delivery_ids: Sequence[str]) -> dict[str, DeliveryDetail]:
        """Return the details of the deliveries that exist, by id; of each at most the last ten attempts."""

    async def contents(self, delivery_ids: Sequence[str]) -> dict[str, DeliveryContent]:
        """Return what the deliveries contain whose events are stored, by id."""

    async def task_history(self, task_id: TaskId, *, limit: int, with_delivery: str | None) -> list[Json]:
        """Return the newest `limit` entries of each kind of a task's history, and those of one more delivery.

        They are the rows of `TaskQueries.history`, oldest first. Attempts do not count: they are the last of each
        delivery.
        """
