"""Stores how attempts ended and releases deliveries that were not begun, also after a short outage of the database."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from service.concurrency.batcher import Batcher
from service.deliveries.error_text import describe_error
from service.domain.ports.queues import AttemptResult, DeliveryQueue

BATCH = 256
"""Maximum results in one commit."""

STORE_RETRY_DELAYS = (0.2, 1.0, 5.0)
"""Seconds between attempts to write while the database is unavailable."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.deliveries")


@dataclass(kw_only=True, slots=True)
class AttemptStore:
    """Writes to `queue`, many items in one commit.

    `retry_delays` are the seconds between attempts to write while the database is unavailable; they are not waited for
    once `stopping` returns true.
    """

    queue: DeliveryQueue
    retry_delays: Sequence[float]
    stopping: Callable[[], bool]
    _results: Batcher[AttemptResult, bool] = field(init=False)
    _unused: Batcher[tuple[str, int], bool] = field(init=False)

    def __post_init__(self) -> None:
        self._results = Batcher(self._store, max_items=BATCH)
        self._unused = Batcher(self._release, max_items=BATCH)

    async def store(self, result: AttemptResult) -> bool | None:
        """Return whether the fence let the result be stored; None if no attempt to store it succeeded."""
        event = "attempt result not stored, retrying"
        return await self._with_retry(lambda: self._results.add(result), event, result.delivery_id)

    async def release(self, delivery_id: str, fence: int) -> bool | None:
        """Release a delivery that was leased and not begun; None if no attempt succeeded: its lease expires.

        A lease that expires counts an attempt, although none was made.
        """
        event = "delivery not released, retrying"
        return await self._with_retry(lambda: self._unused.add((delivery_id, fence)), event, delivery_id)

    async def hold(self, delivery_id: str, fence: int, now: datetime) -> bool | None:
        """Release a delivery to a paused endpoint, uncounted; None if no attempt succeeded: its lease expires."""

        async def write() -> bool:
            await self.queue.hold(delivery_id, fence, now=now)
            return True

        return await self._with_retry(write, "delivery not held, retrying", delivery_id)

    async def _with_retry(self, write: Callable[[], Awaitable[bool]], event: str, delivery_id: str) -> bool | None:
        for delay in (*self.retry_delays, None):
            try:
                return await write()
            except Exception as error:  # noqa: BLE001 - after any error the lease expires
                log.warning(event, delivery=delivery_id, error=describe_error(error))
                if delay is not None and not self.stopping():
                    await asyncio.sleep(delay)
        return None

    async def _store(self, results: list[AttemptResult]) -> list[bool]:
        stored = await self.queue.finish(results)
        return [result.delivery_id in stored for result in results]

    async def _release(self, claims: list[tuple[str, int]]) -> list[bool]:
        await self.queue.release(dict(sorted(claims, key=lambda claim: claim[1])))
        return [True] * len(claims)
