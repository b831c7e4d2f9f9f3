"""What the use-cases need from the outside, as small Protocols that the adapters implement."""

from service.ports.health import Gauges, Health, Memory
from service.ports.hints import Clock, Signals
from service.ports.ledger import (
    DeliveryClaim,
    DeliveryRow,
    EventRow,
    Inbox,
    InboxEntry,
    Ledger,
    LedgerTransaction,
    PollRow,
    RunTime,
)
from service.ports.library import DeliveryView, IdempotencyKey, Inputs, Intake, Library, TaskFilter
from service.ports.queues import (
    AttemptResult,
    Blame,
    DeliveryQueue,
    Limits,
    Outcome,
    PollQueue,
    Recall,
    Room,
    SubmissionQueue,
)
from service.ports.upstream import Order, PacedUpstream, Upstream

__all__ = [
    "AttemptResult",
    "Blame",
    "Clock",
    "DeliveryClaim",
    "DeliveryQueue",
    "DeliveryRow",
    "DeliveryView",
    "EventRow",
    "Gauges",
    "Health",
    "IdempotencyKey",
    "Inbox",
    "InboxEntry",
    "Inputs",
    "Intake",
    "Ledger",
    "LedgerTransaction",
    "Library",
    "Limits",
    "Memory",
    "Order",
    "Outcome",
    "PacedUpstream",
    "PollQueue",
    "PollRow",
    "Recall",
    "Room",
    "RunTime",
    "Signals",
    "SubmissionQueue",
    "TaskFilter",
    "Upstream",
]
