"""Operator events: stored once for each condition, and handed to the handlers and endpoints that ask for them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.operator_event import OperatorEventType
from service.domain.task import Json

OPERATOR_EVENTS = "operator_events"
"""The topic of new operator events."""

OPERATOR_JOB = "operator-event"
"""The job of a handler that receives operator events."""

ENDPOINT_JOB = "endpoint-operator-event"
"""The job of the webhook handler that posts an operator event to an endpoint."""


@dataclass(frozen=True, kw_only=True)
class SubscribedEndpoint:
    """An endpoint of a client whose filter names operator events."""

    id: str
    client: str
    events: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class OperatorSubscriber:
    """Who gets operator events of some types: a handler by its stored name, or an endpoint.

    None before `since` are for it.
    """

    name: str
    types: frozenset[str]
    endpoint_id: str | None = None
    since: datetime | None = None


class OperatorEvents(Protocol):
    """Stores operator events."""

    async def report(self, type_: OperatorEventType, condition: str, data: Json, *, at: datetime) -> bool:
        """Store an event unless its condition has one; return whether it is new."""

    async def hand_over(self, subscribers: Iterable[OperatorSubscriber], *, now: datetime) -> int:
        """Store a job for each event that a subscriber has not got yet; return how many."""

    async def subscribed_endpoints(self) -> list[SubscribedEndpoint]:
        """Return the endpoints that are neither paused nor disabled and name operator events."""

    async def prune(self, *, before: datetime) -> int:
        """Delete events before a time; return how many."""
