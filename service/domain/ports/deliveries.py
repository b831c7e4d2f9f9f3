"""Reads of deliveries: what a list selects, and what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.domain.task import TaskId


@dataclass(frozen=True, kw_only=True)
class DeliveryView:
    """A delivery; `fault` is `destination` or `ours` for a dead letter.

    `requested` is True if a `notify` entry of the task or an endpoint asked for it, False if the operator's settings
    did. `endpoint_id` is that of the endpoint.
    """

    id: str
    task_id: TaskId
    client: str
    event_id: str
    event_type: str
    handler: str
    status: str
    attempts: int
    due_at: datetime | None
    fault: str | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None
    requested: bool = False
    endpoint_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeliverySelection:
    """A filter for lists of deliveries: None for all; newest first, after `cursor` (the id of a delivery).

    With `fault`, `destination` or `ours`, only the dead letters for which that party is responsible; with `endpoint_id`
    only those to that endpoint.
    """

    client: str | None = None
    status: str | None = None
    handler: str | None = None
    fault: str | None = None
    endpoint_id: str | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeliveryWindow:
    """Deliveries that one bounded read has found.

    `after` is the id of a delivery to continue after; None at the end, or if the limit of the read was reached.
    """

    deliveries: Sequence[DeliveryView]
    after: str | None = None
