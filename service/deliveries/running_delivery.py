"""A delivery in hand: its claim, the handler that runs, and what the log says about it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from service.deliveries.handler_api import Handler
from service.domain.ports.queues import AttemptResult
from service.domain.ports.unit_of_work import DeliveryClaim

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.dispatch")


@dataclass(kw_only=True, eq=False)
class RunningDelivery:
    """A delivery in hand. `running` is False once its handler has ended and only the result is to be stored.

    `ends_by` is the event loop's time at which even a handler that was cancelled at its timeout must have ended. One
    that has not is `unresponsive` as soon as its attempt was ended without it.
    """

    claim: DeliveryClaim
    handler: Handler
    started_at: datetime
    ends_by: float
    running: bool = True
    unresponsive: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def overdue(self, now: float) -> bool:
        """Whether its handler took no notice of its timeout."""
        return self.running and now > self.ends_by


def leases(hands: Iterable[RunningDelivery]) -> dict[str, int]:
    """Return the fence of each delivery; one that was claimed again after a stall is held by its newer claim."""
    return {hand.claim.id: hand.claim.fence for hand in sorted(hands, key=lambda hand: hand.claim.fence)}


def cancel_lost(hand: RunningDelivery) -> None:
    """Stop a handler whose delivery is another's now: its late result would only meet the fence."""
    log.warning("lease lost", **named(hand))
    if hand.task:
        hand.task.cancel()


def named(hand: RunningDelivery) -> dict[str, str]:
    """Return what a line in the log says about which delivery it is."""
    return {"task": hand.claim.event.task_id, "delivery": hand.claim.id, "handler": hand.handler.name}


def log_unfinished(hands: Iterable[RunningDelivery]) -> None:
    """Name what did not end with all else: the handlers in one line, since they may hold the whole process."""
    unresponsive = [hand for hand in hands if hand.running or hand.unresponsive]
    if unresponsive:
        names = sorted({hand.handler.name for hand in unresponsive})
        log.error("handlers take no notice of their cancellation", handlers=names, deliveries=len(unresponsive))
    for hand in set(hands).difference(unresponsive):
        log.warning("delivery not through at the end, its lease runs out", **named(hand))


def log_outcome(hand: RunningDelivery, result: AttemptResult, *, held: bool | None, where: str | None) -> None:
    """Tell how an attempt ended: `where` its error came from, `held` whether it was stored, None where it could not be.

    A failure is told when it will be tried again.
    """
    failure = {"error": result.error, "where": where, "fault": result.fault, "again_at": _told(result.due_at)}
    (log.info if result.outcome == "delivered" else log.warning)(
        "delivery",
        **named(hand),
        attempt=result.attempt,
        event_type=hand.claim.event.type.value,
        seconds=round((result.finished_at - result.started_at).total_seconds(), 3),
        outcome={True: result.outcome, False: "discarded", None: "not stored"}[held],
        **{name: value for name, value in failure.items() if value},
    )


def _told(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None
