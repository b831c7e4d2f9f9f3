"""What pages show of deliveries beside the lists of the API."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


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


class DeliveryDetails(Protocol):
    """Reads details of deliveries."""

    async def details(self, delivery_ids: Sequence[str]) -> dict[str, DeliveryDetail]:
        """Return the details of the deliveries that exist, by id; of each at most the last ten attempts."""
