"""What the dashboard counts: figures that are cheap at any number of tasks, since each is bounded."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MAX_COUNTED = 1000
"""The highest number that is counted; one more stands for `more than that`."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What needs attention: each number is at most MAX_COUNTED + 1.

    `without_result` counts tasks since a time that were paid and have no result. `unsettled_id` is the oldest task that
    is neither settled nor expired, `unsettled_since` when it was created. `key_rejected_since` is since when the
    provider rejects our key, None while it does not, and for a client.
    """

    in_doubt: int
    without_result: int
    dead: int
    queued: int
    in_flight: int
    unsettled_id: str | None = None
    unsettled_since: datetime | None = None
    key_rejected_since: datetime | None = None


class Overview(Protocol):
    """Bounded counts; `client` None is all clients."""

    async def attention(self, client: str | None, *, since: datetime) -> Attention:
        """Return what needs attention; tasks without a result since `since`."""
