"""Operator events: stored once for each condition, and handed to the handlers that ask for them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from service.domain.operator_event import OperatorEventType
from service.domain.task import Json

OPERATOR_EVENTS = "operator_events"
"""The topic of new operator events."""

OPERATOR_JOB = "operator-event"
"""The job of a handler that receives operator events."""


class KeyRejections(Protocol):
    """Since when the provider rejects our key, known to all processes."""

    async def rejected(self, now: datetime) -> bool:
        """Store that the key is rejected since `now`, unless it was before; return whether that is new."""

    async def accepted(self) -> bool:
        """Store that the key is accepted; return whether it was rejected before."""


class OperatorEvents(Protocol):
    """Stores operator events."""

    async def report(self, type_: OperatorEventType, condition: str, data: Json, *, at: datetime) -> bool:
        """Store an event unless its condition has one; return whether it is new."""

    async def hand_over(self, subscriptions: Mapping[str, frozenset[str]], *, now: datetime) -> int:
        """Store a job for each event that a handler (stored name to types) has not got yet; return how many."""

    async def prune(self, *, before: datetime) -> int:
        """Delete events before a time; return how many."""
