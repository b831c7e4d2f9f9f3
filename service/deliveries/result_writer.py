"""Stores and logs how attempts ended; tries again while the database is unavailable."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from service.concurrency.batcher import Batcher
from service.deliveries.attempt_outcome import AttemptOutcome
from service.deliveries.error_text import describe_error
from service.deliveries.running_delivery import RunningDelivery, log_outcome
from service.domain.duration_histogram import DELIVERIES, DurationHistogram
from service.domain.ports.queues import AttemptResult, DeliveryQueue
from service.domain.ports.signals import Clock

BATCH = 256
"""Maximum results in one commit."""

STORE_RETRY_DELAYS = (0.2, 1.0, 5.0)
"""Seconds between attempts to store a result while the database is unavailable."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.deliveries")


@dataclass(kw_only=True, slots=True)
class ResultWriter:
    """Stores the results of attempts; results that end at the same time share a commit.

    `retry_delays` holds the seconds between attempts to store one. Once `may_wait` returns False, because the process
    stops, the remaining attempts follow without a delay. `delivery_times` are the times from an event to its delivery,
    by handler.
    """

    queue: DeliveryQueue
    clock: Clock
    retry_delays: Sequence[float]
    may_wait: Callable[[], bool]
    delivery_times: dict[str, DurationHistogram] = field(default_factory=dict, init=False)
    _batcher: Batcher[AttemptResult, bool] = field(init=False)

    def __post_init__(self) -> None:
        self._batcher = Batcher(self._store, max_items=BATCH)

    async def finish(self, delivery: RunningDelivery, outcome: AttemptOutcome) -> None:
        """Store and log the outcome of the attempt. Never raises: if nothing is stored, the lease expires."""
        result = AttemptResult(
            delivery_id=delivery.claim.id,
            fence=delivery.claim.fence,
            attempt=delivery.claim.attempt,
            started_at=delivery.started_at,
            finished_at=self.clock.now(),
            outcome=outcome.outcome,
            error=outcome.error,
            fault=outcome.fault,
            due_at=outcome.due_at,
            end_reason=outcome.end_reason,
        )
        stored = await self._store_with_retry(result)
        if stored and result.outcome == "delivered":
            times = self.delivery_times.setdefault(delivery.handler.name, DurationHistogram(bounds=DELIVERIES))
            times.observe(result.finished_at - delivery.claim.created_at)
        log_outcome(delivery, result, stored=stored, where=outcome.where)

    async def _store_with_retry(self, result: AttemptResult) -> bool | None:
        """Return whether the fence let the result be stored; None if no attempt to store it succeeded."""
        for delay in (*self.retry_delays, None):
            try:
                return await self._batcher.add(result)
            except Exception as error:  # noqa: BLE001 - after any error the lease expires
                log.warning(
                    "attempt result not stored, retrying", delivery=result.delivery_id, error=describe_error(error)
                )
                if delay is not None and self.may_wait():
                    await asyncio.sleep(delay)
        return None

    async def _store(self, results: list[AttemptResult]) -> list[bool]:
        stored = await self.queue.finish(results)
        return [result.delivery_id in stored for result in results]
