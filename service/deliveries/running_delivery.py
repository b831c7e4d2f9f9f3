"""A delivery whose attempt runs in this process: its claim, its handler, and its log lines."""

import asyncio
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from service.deliveries.attempt_outcome import AttemptOutcome
from service.deliveries.handler_api import Handler
from service.deliveries.receiver_answer import receiver_answer, target_secrets
from service.domain.ports.circuits import DestinationHealth
from service.domain.ports.queues import AttemptResult, ReceiverAnswer
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.sealed_targets import opened_secrets

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.deliveries")


@dataclass(kw_only=True, eq=False)
class RunningDelivery:
    """A delivery that was leased. `begun` is True once its handler was started.

    `running` is False once its handler has ended and only the result is to be stored. `ends_by` is the event loop's
    time at which even a handler that was cancelled at its timeout must have ended. One that has not is `unresponsive`
    as soon as its attempt was ended without it. `stored_claim` is the claim without what the attempt has completed.
    An attempt that is not `counted` was a probe of a failing destination; after the `last` one none follows.
    `endpoint_updated_at` is the last change of its endpoint that the attempt has read.
    """

    claim: DeliveryClaim
    handler: Handler
    started_at: datetime
    ends_by: float = math.inf
    begun: bool = False
    running: bool = True
    unresponsive: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    answer: ReceiverAnswer | None = field(default=None, repr=False)
    health: DestinationHealth | None = field(default=None, repr=False)
    counted: bool = True
    last: bool = False
    endpoint_updated_at: datetime | None = None
    stored_claim: DeliveryClaim = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.stored_claim = self.claim

    @property
    def attempt(self) -> int:
        """Return the number of attempts that count with this one."""
        return self.claim.attempt if self.counted else self.claim.attempt - 1

    @property
    def secrets(self) -> list[str]:
        """Return what no error and no answer may show of the target."""
        opened = self.claim.target
        return [*target_secrets(opened), *opened_secrets(self.stored_claim.target, opened)]

    def keep_answer(self, status: int, body: bytes) -> None:
        """Keep what the receiver answered, without the secrets of the target."""
        self.answer = receiver_answer(status, body, self.secrets)

    def overdue(self, now: float) -> bool:
        """Return whether its handler ignored the cancellation at its timeout."""
        return self.running and now > self.ends_by

    def result(self, outcome: AttemptOutcome, finished_at: datetime) -> AttemptResult:
        """Return the result of its attempt, to be stored."""
        return AttemptResult(
            delivery_id=self.claim.id,
            fence=self.claim.fence,
            attempt=self.attempt,
            started_at=self.started_at,
            finished_at=finished_at,
            outcome=outcome.outcome,
            error=outcome.error,
            fault=outcome.fault,
            due_at=outcome.due_at,
            end_reason=outcome.end_reason,
            answer=self.answer,
            about_destination=outcome.about_destination,
            health=self.health,
            endpoint_updated_at=self.endpoint_updated_at,
        )

    @property
    def log_fields(self) -> dict[str, str]:
        """Return the fields of a log line that identify the delivery."""
        return {"task": self.claim.event.task_id, "delivery": self.claim.id, "handler": self.handler.name}


def log_unfinished(deliveries: Collection[RunningDelivery]) -> None:
    """Log deliveries that did not end before the shutdown: handlers in one line, as they may block the exit."""
    unresponsive = [delivery for delivery in deliveries if delivery.running or delivery.unresponsive]
    if unresponsive:
        names = sorted({delivery.handler.name for delivery in unresponsive})
        log.error("handlers ignored cancellation", handlers=names, deliveries=len(unresponsive))
    for delivery in deliveries:
        if not (delivery.running or delivery.unresponsive):
            log.warning("delivery unfinished at shutdown, lease will expire", **delivery.log_fields)


def log_outcome(delivery: RunningDelivery, result: AttemptResult, *, stored: bool | None, where: str | None) -> None:
    """Log how an attempt ended, a failure as a warning.

    `where` is the line that raised its error. `stored` is False if the fence rejected the result, None if the database
    did not take it.
    """
    failure: dict[str, str | None] = {}
    if result.outcome != "delivered":
        again_at = result.due_at.isoformat(timespec="seconds") if result.due_at else None
        failure = {
            "error": result.error,
            "where": where,
            "fault": result.fault,
            "again_at": again_at,
            "end_reason": result.end_reason,
        }
    (log.info if result.outcome == "delivered" else log.warning)(
        "delivery",
        **delivery.log_fields,
        attempt=result.attempt,
        event_type=delivery.claim.event.type.value,
        seconds=round((result.finished_at - result.started_at).total_seconds(), 3),
        outcome={True: result.outcome, False: "discarded", None: "not stored"}[stored],
        **{name: value for name, value in failure.items() if value},
    )
